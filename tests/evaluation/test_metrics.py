"""Our vectorised metrics are scikit-learn's, and the intervals are what they claim to be."""

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from textassay.evaluation import bootstrap, intervals
from textassay.evaluation.confidences import expected_calibration_error
from textassay.evaluation.metrics import (
    NAMES,
    calibration_change,
    per_class,
    point_scores,
    score,
)
from textassay.evaluation.ranking import roc_auc
from textassay.models.probabilities import softmax


def random_case(seed: int, rows: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(labels, size=rows)
    logits = random.normal(size=(rows, labels))
    logits[np.arange(rows), truth] += random.uniform(0, 2)
    return truth, logits


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 7))
def test_point_scores_equal_scikit_learn(seed: int, rows: int, labels: int) -> None:
    truth, logits = random_case(seed, rows, labels)
    predicted = logits.argmax(1)
    found = point_scores(truth, logits)
    wanted = {
        "accuracy": reference.accuracy_score(truth, predicted),
        "mcc": reference.matthews_corrcoef(truth, predicted),
        "log_loss": reference.log_loss(truth, softmax(logits), labels=range(labels)),
    }
    for average in ("macro", "weighted"):
        for name in ("f1", "precision", "recall"):
            function = getattr(reference, f"{name}_score")
            wanted[f"{average}_{name}"] = function(
                truth, predicted, average=average, zero_division=0
            )
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(20, 80), st.integers(2, 4))
def test_roc_auc_equals_scikit_learn_where_every_label_occurs(
    seed: int, rows: int, labels: int
) -> None:
    truth, logits = random_case(seed, rows, labels)
    probabilities = softmax(np.round(logits, 1))  # rounded, so that there are ties
    areas = [
        reference.roc_auc_score(truth == label, probabilities[:, label])
        for label in range(labels)
        if 0 < (truth == label).sum() < rows
    ]
    assert roc_auc(truth, probabilities) == pytest.approx(np.mean(areas))


def test_roc_auc_of_a_single_label_is_undefined() -> None:
    assert roc_auc(np.zeros(5, dtype=int), np.full((5, 2), 0.5)) is None
    assert score(np.zeros(5, dtype=int), np.eye(2)[[0] * 5], resamples=100)["roc_auc"].value is None


def test_per_class_equals_scikit_learn() -> None:
    truth, logits = random_case(1, 200, 3)
    table = per_class(truth, logits.argmax(1), ("a", "b", "c"))
    report = reference.classification_report(truth, logits.argmax(1), output_dict=True)
    for index, row in enumerate(table):
        assert row["f1"] == pytest.approx(report[str(index)]["f1-score"])
        assert row["rows"] == report[str(index)]["support"]


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    truth = np.array([0, 1, 0, 1])
    # bins: 0.9 holds two rows, one right; 0.6 and 0.8 hold one right row each
    by_hand = (2 * abs(0.5 - 0.9) + abs(1 - 0.6) + abs(1 - 0.8)) / 4
    assert expected_calibration_error(truth, probabilities) == pytest.approx(by_hand)


def test_every_metric_has_an_interval_around_its_value() -> None:
    truth, logits = random_case(2, 300, 4)
    for name, one in score(truth, logits, resamples=300).items():
        assert one.low <= one.value + 0.05 and one.value - 0.05 <= one.high, name
        assert one.low < one.high, name
    assert set(score(truth, logits, resamples=100)) == set(NAMES)


def test_the_interval_of_accuracy_is_wilsons() -> None:
    """Also where all rows are right, which plain resamples would be sure of."""
    for right, rows in ((4, 4), (17, 20), (0, 9), (700, 1000)):
        truth = np.arange(rows) % 3
        predicted = np.where(np.arange(rows) < right, truth, (truth + 1) % 3)
        found = score(truth, np.eye(3)[predicted])["accuracy"]
        wanted = binomtest(right, rows).proportion_ci(method="wilson")
        further = 0.5 / rows + 0.005  # the t distribution's longer reach
        assert wanted.low - further <= found.low <= wanted.low + 0.01
        assert wanted.high - 0.01 <= found.high <= wanted.high + further


def test_the_same_predictions_give_the_same_interval() -> None:
    truth, logits = random_case(3, 100, 3)
    assert score(truth, logits, resamples=200) == score(truth, logits, resamples=200)


def many_rows(rows: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Label ids, and logits that are right more often than not."""
    random = np.random.default_rng(3)
    truth = random.integers(labels, size=rows)
    logits = random.normal(size=(rows, labels))
    logits[np.arange(rows), truth] += 1.5
    return truth, logits


def test_many_rows_have_the_intervals_that_resampling_row_by_row_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth, logits = many_rows(4_000, 4)
    exact = score(truth, logits)
    for module in (bootstrap, intervals):
        monkeypatch.setattr(module, "EXACT_ROWS", 1_000)
    fast = score(truth, logits)
    for name, wanted in exact.items():
        found = fast[name]
        width = wanted.high - wanted.low
        assert found.value == wanted.value, name
        assert abs(found.low - wanted.low) < 0.15 * width, name
        assert abs(found.high - wanted.high) < 0.15 * width, name
    before, after = softmax(logits), softmax(logits / 3)
    change = calibration_change(truth, before, after)
    monkeypatch.undo()
    for name, wanted in calibration_change(truth, before, after).items():
        assert change[name].low == pytest.approx(wanted.low, rel=0.05), name
        assert change[name].high == pytest.approx(wanted.high, rel=0.05), name


def test_resamples_are_held_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, logits = many_rows(300, 3)
    monkeypatch.setattr(bootstrap, "HELD_AT_ONCE", 900)
    cells = bootstrap.LabelCells.of(truth, [logits.argmax(1)], 3)
    parts = list(cells.resampled(250))
    assert [len(counts.true) for (counts,) in parts] == [100, 100, 50]
    for (counts,) in parts:
        assert (counts.true.sum(1) == 300).all() and (counts.hits <= counts.true).all()
