"""The baselines learn what is easy to learn, and come out the same whatever the machine allows."""

import numpy as np
import pytest
from tests.tables_for_tests import table_of
from threadpoolctl import threadpool_limits

from textassay.config.schema import EvaluationSection
from textassay.data.labels import LabelMap
from textassay.data.read import read_file
from textassay.evaluation.baselines import NotFittedError, majority, tfidf
from textassay.evaluation.evaluate import Evaluation, compare_with_baselines
from textassay.evaluation.metrics import score
from textassay.files import project_root


def test_the_majority_knows_how_often_each_label_occurs() -> None:
    logits = majority(np.array([0, 2, 2, 2]), rows=2, labels=3)
    assert logits.shape == (2, 3)
    np.testing.assert_allclose(np.exp(logits), [[0.25, 0, 0.75]] * 2, atol=1e-8)


@pytest.mark.parametrize(
    ("good", "bad", "asked"),
    [
        ("a fine film", "a dull film", ["fine", "dull"]),
        ("这部电影很好", "这部电影很差", ["好", "差"]),
        ("यह दिन है", "यह दान है", ["दिन", "दान"]),  # the same letters, another vowel sign
        ("ໜັງດີຫຼາຍ", "ໜັງບໍ່ດີ", ["ດີຫຼາຍ", "ບໍ່ດີ"]),
    ],
)
def test_a_word_or_a_character_is_enough(good: str, bad: str, asked: list[str]) -> None:
    labels = np.array([1, 0] * 10)
    logits = tfidf([good, bad] * 10, labels, asked, labels=3)
    assert logits.argmax(axis=1).tolist() == [1, 0]
    assert (logits[:, 2] < -20).all(), "a label that no training row has"


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["😀😡", "🙌🔥", "a !", "..."], "no word of two letters"),
        (["爱", "好", "坏", "美"], "no terms"),
        (["a good film", "a bad film"], "class"),
    ],
)
def test_texts_that_cannot_fit_it_are_a_reason_and_no_traceback(texts: list[str], why: str) -> None:
    labels = np.arange(len(texts)) % 2 if len(texts) > 2 else np.zeros(2, int)
    with pytest.raises(NotFittedError, match=why):
        tfidf(texts, labels, texts, labels=2)


def test_the_same_bytes_with_any_number_of_threads() -> None:
    rows = read_file(project_root() / "data" / "samples" / "sentiment5_en.csv")
    texts = rows.columns["text"].to_pylist()
    names = rows.columns["label"].to_pylist()
    labels = np.array([sorted(set(names)).index(name) for name in names])
    found = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            found.append(tfidf(texts[:700], labels[:700], texts[700:], 5).tobytes())
    assert found[0] == found[1]


def test_a_baseline_that_cannot_be_fitted_is_a_note_and_the_others_stand() -> None:
    truth = np.array([0, 1] * 6)
    labels = LabelMap(("bad", "good"))
    emoji = [("😀" * (n + 1), labels.names[n % 2]) for n in range(12)]
    table = table_of(emoji)
    logits = np.eye(2)[truth]
    tuned = Evaluation("test", labels, table, truth, logits, 0, score(truth, logits, resamples=100),
                       EvaluationSection(bootstrap_samples=100))  # fmt: skip
    baselines, notes = compare_with_baselines(tuned, table)
    assert [baseline.name for baseline in baselines] == ["majority"]
    assert notes == [
        "The baseline TF-IDF cannot be fitted: the training texts hold no word of two letters or "
        "more."
    ]
