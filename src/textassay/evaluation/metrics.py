"""Scores of a classifier, each with its interval (see `intervals.py` and `bootstrap.py`)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textassay.evaluation.bootstrap import Counts, LabelCells
from textassay.evaluation.confidences import (
    CALIBRATED,
    INTERVALS,
    changes_over_resamples,
    expected_calibration_error,
    log_loss,
)
from textassay.evaluation.intervals import share_interval, spread_of
from textassay.evaluation.ranking import roc_auc, roc_auc_interval
from textassay.models.probabilities import softmax

LOWER_IS_BETTER = ("loss", "log_loss", "ece")
HEADLINE = ("accuracy", "macro_f1")
NAMES = (
    "accuracy", "macro_f1", "weighted_f1", "macro_precision", "macro_recall", "weighted_precision",
    "weighted_recall", "mcc", "roc_auc", "log_loss", "ece",
)  # fmt: skip


@dataclass(frozen=True)
class Score:
    """A figure with its interval; `value` is None where it is not defined (one class, say)."""

    value: float | None
    low: float | None = None
    high: float | None = None


def score(
    truth: np.ndarray, logits: np.ndarray, confidence: float = 0.95, resamples: int = 2000
) -> dict[str, Score]:
    """All metrics of `NAMES` for label ids of shape [rows] and logits of shape [rows, labels]."""
    scores = label_scores(truth, logits.argmax(1), logits.shape[1], confidence, resamples)
    scores |= probability_scores(truth, softmax(logits), confidence)
    return {name: scores[name] for name in NAMES}


def label_scores(
    truth: np.ndarray, predicted: np.ndarray, labels: int, confidence: float, resamples: int
) -> dict[str, Score]:
    """The metrics of `label_metrics` for label ids of shape [rows], with their intervals."""
    cells = LabelCells.of(truth, [predicted], labels)
    names = list(label_metrics(cells.counts(cells.rows[None])[0]))

    def statistic(counts: Sequence[Counts]) -> np.ndarray:
        return np.stack(list(label_metrics(counts[0]).values()), 1)

    value = statistic(cells.counts(cells.rows[None]))[0]
    lowest = np.array([-1.0 if name == "mcc" else 0.0 for name in names])
    low, high = share_interval(value, spread_of(cells, statistic, resamples), confidence, lowest)
    bounds = zip(names, value, low, high, strict=True)
    return {name: Score(float(v), float(lo), float(hi)) for name, v, lo, hi in bounds}


def probability_scores(
    truth: np.ndarray, probabilities: np.ndarray, confidence: float = 0.95
) -> dict[str, Score]:
    """The metrics of `NAMES` that a temperature changes: log_loss, ece, and roc_auc a little."""
    ranked = roc_auc_interval(truth, probabilities, confidence)
    scores = {"roc_auc": Score(*ranked) if ranked else Score(None)}
    for name, function in CALIBRATED.items():
        bounds = INTERVALS[name](truth, probabilities, confidence)
        scores[name] = Score(function(truth, probabilities), *bounds)
    return scores


def point_scores(truth: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """All metrics without intervals, undefined ones left out; for use while training."""
    table = confusion_metrics(confusions(truth, logits.argmax(1)[None], logits.shape[1]))
    found: dict[str, float | None] = {name: float(values[0]) for name, values in table.items()}
    probabilities = softmax(logits)
    found["roc_auc"] = roc_auc(truth, probabilities)
    found["log_loss"] = log_loss(truth, probabilities)
    found["ece"] = expected_calibration_error(truth, probabilities)
    return {name: value for name, value in found.items() if value is not None}


def confusions(truth: np.ndarray, predicted: np.ndarray, labels: int) -> np.ndarray:
    """Confusion matrices, shape [systems, labels, labels] (rows truth), of [systems, rows] ids."""
    cells = truth[None] * labels + predicted
    counts = [np.bincount(row, minlength=labels * labels) for row in cells]
    return np.array(counts).reshape(-1, labels, labels)


def confusion_metrics(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics of confusion matrices [n, labels, labels], each of shape [n]."""
    return label_metrics(Counts.of(matrices.astype(np.float64)))


def label_metrics(counts: Counts) -> dict[str, np.ndarray]:
    """Metrics of n tables of counts, each of shape [n].

    Averages run over the labels that occur in truth or prediction, as in scikit-learn; precision
    and recall of a label with no row count as 0. MCC is Gorodkin's R_K (2004).
    """
    hits, true, predicted = counts.hits, counts.true, counts.predicted
    rows = true.sum(1)
    precision, recall = _ratio(hits, predicted), _ratio(hits, true)
    f1 = _ratio(2 * hits, true + predicted)
    present = (true + predicted) > 0
    right = hits.sum(1)
    covariance = right * rows - (true * predicted).sum(1)
    variance = (rows**2 - (predicted**2).sum(1)) * (rows**2 - (true**2).sum(1))

    def macro(values: np.ndarray) -> np.ndarray:
        return (values * present).sum(1) / present.sum(1)

    def weighted(values: np.ndarray) -> np.ndarray:
        return (values * true).sum(1) / rows

    return {
        "accuracy": right / rows,
        "macro_f1": macro(f1),
        "weighted_f1": weighted(f1),
        "macro_precision": macro(precision),
        "macro_recall": macro(recall),
        "weighted_precision": weighted(precision),
        "weighted_recall": weighted(recall),
        "mcc": _ratio(covariance, np.sqrt(variance)),
    }


def calibration_change(
    truth: np.ndarray, before: np.ndarray, after: np.ndarray,
    confidence: float = 0.95, resamples: int = 2000,
) -> dict[str, Score]:  # fmt: skip
    """Log loss and ECE of the probabilities `after` minus `before`, both on the same resamples."""
    bounds = changes_over_resamples(truth, before, after, confidence, resamples)
    return {
        name: Score(function(truth, after) - function(truth, before), *bounds[name])
        for name, function in CALIBRATED.items()
    }


def per_class(truth: np.ndarray, predicted: np.ndarray, labels: Sequence[str]) -> list[dict]:
    """Precision, recall, F1 and rows of every label, in the labels' order."""
    matrix = confusions(truth, predicted[None], len(labels))[0].astype(np.float64)
    hits, true, found = np.diagonal(matrix), matrix.sum(1), matrix.sum(0)
    columns = (_ratio(hits, found), _ratio(hits, true), _ratio(2 * hits, true + found), true)
    return [
        {"label": label, "precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
        for label, p, r, f, n in zip(labels, *columns, strict=True)
    ]


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    safe = np.where(denominator > 0, denominator, 1.0)
    return np.where(denominator > 0, numerator / safe, 0.0)
