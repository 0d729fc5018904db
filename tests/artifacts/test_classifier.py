"""`Classifier`: what goes in decides the shape of what comes out."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.models_for_tests import TEXTS, tiny_bert

import textassay
from textassay.errors import GateError


def test_a_string_gives_one_answer_and_a_list_a_list(make, tmp_path) -> None:
    make(tmp_path)
    classifier = textassay.Classifier.load(tmp_path)
    one = classifier.predict(TEXTS[0])
    assert one["label"] in classifier.labels
    assert one["score"] == max(one["probabilities"].values())
    assert sum(one["probabilities"].values()) == pytest.approx(1)
    assert list(one["probabilities"]) == ["bad", "fine", "good"]
    many = classifier.predict(list(TEXTS))
    assert many[0]["label"] == one["label"]
    assert len(many) == len(TEXTS)
    assert classifier.predict([]) == []
    assert classifier.predict(text for text in TEXTS)[2]["label"] == many[2]["label"]


def test_probabilities_do_not_depend_on_the_company(make, tmp_path) -> None:
    make(tmp_path)
    classifier = textassay.Classifier.load(tmp_path)
    together = classifier.predict_proba(TEXTS)
    alone = np.concatenate([classifier.predict_proba([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_several_threads_get_the_right_answers(make, tmp_path) -> None:
    make(tmp_path)
    classifier = textassay.Classifier.load(tmp_path)
    wanted = [classifier.predict(text)["label"] for text in TEXTS]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: classifier.predict(text)["label"], TEXTS * 10))
    assert found == wanted * 10


def test_a_moved_base_can_be_named(make, tmp_path) -> None:
    make(tmp_path / "adapter")
    elsewhere = tiny_bert(tmp_path / "elsewhere")
    before = textassay.Classifier.load(tmp_path / "adapter").logits(TEXTS)
    after = textassay.Classifier.load(tmp_path / "adapter", base=str(elsewhere)).logits(TEXTS)
    np.testing.assert_array_equal(before, after)


def test_an_artifact_that_is_not_what_it_says_is_not_loaded(make, tmp_path) -> None:
    make(tmp_path)
    hallmark = json.loads((tmp_path / "hallmark.json").read_text())
    hallmark["labels"] = ["good", "fine", "bad"]
    (tmp_path / "hallmark.json").write_text(json.dumps(hallmark))
    with pytest.raises(GateError, match="stamped with"):
        textassay.Classifier.load(tmp_path)


def test_a_plain_transformers_classifier_is_loaded_and_said_to_be_unproven(
    make, tmp_path, capsys
) -> None:
    make(tmp_path, "full")
    (tmp_path / "hallmark.json").unlink()
    (tmp_path / "label_mapping.json").unlink()
    assert len(textassay.Classifier.load(tmp_path).predict(TEXTS)) == len(TEXTS)
    assert "carries no hallmark" in capsys.readouterr().err


def test_a_classifier_is_found_by_its_hub_name(make, tmp_path, monkeypatch) -> None:
    """In a hub cache laid out by hand."""
    make(tmp_path / "made", "full")
    cached = tmp_path / "hub" / "models--org--classifier"
    shutil.copytree(tmp_path / "made", cached / "snapshots" / "abc123")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    found = textassay.Classifier.load("org/classifier").logits(TEXTS)
    np.testing.assert_array_equal(found, textassay.Classifier.load(tmp_path / "made").logits(TEXTS))
