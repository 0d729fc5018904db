"""`Classifier`: what goes in decides the shape of what comes out."""

import itertools
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import transformers
from scipy.special import softmax
from tests.models_for_tests import TEXTS, tiny_bert

import textassay
from textassay.errors import DataError, GateError


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


def test_it_stands_where_a_pipeline_is_expected(make, tmp_path) -> None:
    """The same shapes and numbers as transformers gives for the same model."""
    make(tmp_path, "full")
    classifier = textassay.Classifier.load(tmp_path)
    pipeline = transformers.pipeline("text-classification", str(tmp_path), device="cpu")
    for inputs, options in (
        (TEXTS[0], {}),
        (list(TEXTS), {}),
        (TEXTS[0], {"top_k": None}),
        (list(TEXTS), {"top_k": None}),
        (list(TEXTS), {"top_k": 2}),
    ):
        found, wanted = classifier(inputs, **options), pipeline(inputs, **options)
        assert [_flat(one) for one in found] == [_flat(one) for one in wanted]


def _flat(answer) -> list:
    several = answer if isinstance(answer, list) else [answer]
    return [(one["label"], pytest.approx(one["score"], abs=1e-5)) for one in several]


def test_any_number_of_texts_streams_through(make, tmp_path) -> None:
    """No more than a window of them is taken before the first answer is given."""
    make(tmp_path)
    classifier = textassay.Classifier.load(tmp_path)
    taken = []

    def texts():
        for number in itertools.count():
            taken.append(number)
            yield TEXTS[number % len(TEXTS)]

    answers = classifier.stream(texts(), window=3)
    found = np.array([next(answers) for _ in range(7)])
    assert len(taken) == 9
    wanted = classifier.predict_proba([TEXTS[number % len(TEXTS)] for number in range(7)])
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert list(classifier.stream([])) == []


def test_what_is_no_text_is_named(make, tmp_path) -> None:
    make(tmp_path)
    classifier = textassay.Classifier.load(tmp_path)
    with pytest.raises(DataError, match="text 2: holds half of a surrogate pair"):
        classifier.predict(["fine", "\ud800 broken"])
    with pytest.raises(DataError, match="text 1: is int"):
        classifier.predict([5])


def test_a_temperature_makes_it_less_sure_and_changes_no_label(make, tmp_path) -> None:
    make(tmp_path, "full")
    before = textassay.Classifier.load(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["textassay"]["temperature"] = 4.0
    (tmp_path / "config.json").write_text(json.dumps(config))
    after = textassay.Classifier.load(tmp_path, check_hashes=False)
    assert after.temperature == 4
    np.testing.assert_array_equal(before.logits(TEXTS), after.logits(TEXTS))
    np.testing.assert_allclose(
        after.predict_proba(TEXTS), softmax(before.logits(TEXTS) / 4, axis=1), rtol=1e-6
    )
    assert (after.predict_proba(TEXTS).max(1) < before.predict_proba(TEXTS).max(1)).all()


def test_a_run_means_its_model(make, tmp_path) -> None:
    make(tmp_path / "model")
    (tmp_path / "config.yaml").write_text("fingerprint: x\n")
    assert textassay.Classifier.load(tmp_path).kind == "adapter"
