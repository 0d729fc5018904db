"""Scores of a classifier, each with a bootstrap interval.

A resample draws as many rows as there are, with replacement; the interval is the percentile
interval of its scores (Efron and Tibshirani 1993, chapter 13). Its seed is fixed: the same
predictions give the same interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textassay.models.probabilities import softmax

ECE_BINS = 15
LOWER_IS_BETTER = ("loss", "log_loss", "ece")
# Ranking is slow: rows times labels times resamples that it may cost, and the fewest resamples.
RANKING_BUDGET = 20_000_000
FEWEST_RESAMPLES = 200
RANKED_AT_ONCE = 5_000_000
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
    predicted, labels = logits.argmax(1)[None], logits.shape[1]
    drawn, tails = _drawn(truth, resamples), _tails(confidence)
    point = confusion_metrics(confusions(truth, predicted, labels))
    resampled = [confusions(truth[rows], predicted[:, rows], labels) for rows in drawn]
    spread = confusion_metrics(np.concatenate(resampled))
    scores = {
        name: Score(float(point[name][0]), *map(float, np.percentile(spread[name], tails)))
        for name in point
    }
    scores |= _probability_scores(truth, softmax(logits), drawn, tails)
    return {name: scores[name] for name in NAMES}


def probability_scores(
    truth: np.ndarray, probabilities: np.ndarray, confidence: float = 0.95, resamples: int = 2000
) -> dict[str, Score]:
    """The metrics of `NAMES` that a temperature changes: log_loss, ece, and roc_auc a little."""
    drawn, tails = _drawn(truth, resamples), _tails(confidence)
    return _probability_scores(truth, probabilities, drawn, tails)


def _probability_scores(
    truth: np.ndarray, probabilities: np.ndarray, drawn: np.ndarray, tails: list[float]
) -> dict[str, Score]:
    scores = {"roc_auc": _roc_auc_score(truth, probabilities, drawn, tails)}
    for name, function in CALIBRATED.items():
        found = [function(truth[rows], probabilities[rows]) for rows in drawn]
        scores[name] = Score(
            function(truth, probabilities), *map(float, np.percentile(found, tails))
        )
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
    """Metrics of confusion matrices [n, labels, labels], each of shape [n].

    Averages run over the labels that occur in truth or prediction, as in scikit-learn; precision
    and recall of a label with no row count as 0. MCC is Gorodkin's R_K (2004).
    """
    matrices = matrices.astype(np.float64)
    rows = matrices.sum((1, 2))
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    true, predicted = matrices.sum(2), matrices.sum(1)
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


def roc_auc(truth: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Area under the ROC curve, one label against the rest, mean over the labels.

    Labels without a row, or with all rows, have no curve and do not count; None if none is left.
    """
    area = _areas(truth, probabilities, np.arange(len(truth))[None])[0]
    return None if np.isnan(area) else float(area)


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative log-probability (nats) of the true label."""
    chosen = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def expected_calibration_error(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean gap between confidence and accuracy over 15 equal bins (Guo et al. 2017)."""
    confidence, right, bins = _binned(truth, probabilities)
    gap = np.bincount(bins, weights=right - confidence, minlength=ECE_BINS)
    return float(np.abs(gap).sum() / len(truth))


@dataclass(frozen=True)
class Reliability:
    """Rows by confidence, in 15 equal bins: each array of shape [bins], without the empty ones."""

    confidence: np.ndarray
    accuracy: np.ndarray
    rows: np.ndarray


def reliability(truth: np.ndarray, probabilities: np.ndarray) -> Reliability:
    """Mean confidence and accuracy in the bins of the expected calibration error."""
    confidence, right, bins = _binned(truth, probabilities)
    rows = np.bincount(bins, minlength=ECE_BINS)
    used = rows > 0

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(bins, weights=values, minlength=ECE_BINS)[used] / rows[used]

    return Reliability(mean(confidence), mean(right), rows[used])


def _binned(
    truth: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The confidence of each row, whether its label is right, and its bin; each of shape [rows]."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == truth
    return confidence, right, np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)


# The metrics that calibration is about.
CALIBRATED = {"log_loss": log_loss, "ece": expected_calibration_error}


def calibration_change(
    truth: np.ndarray, before: np.ndarray, after: np.ndarray,
    confidence: float = 0.95, resamples: int = 2000,
) -> dict[str, Score]:  # fmt: skip
    """Log loss and ECE of the probabilities `after` minus `before`, both on the same resamples."""
    drawn, tails = _drawn(truth, resamples), _tails(confidence)
    found = {}
    for name, function in CALIBRATED.items():
        spread = [function(truth[rows], after[rows]) - function(truth[rows], before[rows])
                  for rows in drawn]  # fmt: skip
        value = function(truth, after) - function(truth, before)
        found[name] = Score(value, *map(float, np.percentile(spread, tails)))
    return found


def paired_difference(
    truth: np.ndarray,
    ours: np.ndarray,
    theirs: np.ndarray,
    labels: int,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> dict[str, Score]:
    """Accuracy and macro-F1 of predictions `ours` minus `theirs`, both on the same resamples."""
    both = np.stack([ours, theirs])
    drawn, tails = _drawn(truth, resamples), _tails(confidence)
    point = confusion_metrics(confusions(truth, both, labels))
    spread = [confusion_metrics(confusions(truth[rows], both[:, rows], labels)) for rows in drawn]
    found = {}
    for name in HEADLINE:
        differences = [one[name][0] - one[name][1] for one in spread]
        low, high = np.percentile(differences, tails)
        found[name] = Score(float(point[name][0] - point[name][1]), float(low), float(high))
    return found


def per_class(truth: np.ndarray, predicted: np.ndarray, labels: Sequence[str]) -> list[dict]:
    """Precision, recall, F1 and rows of every label, in the labels' order."""
    matrix = confusions(truth, predicted[None], len(labels))[0].astype(np.float64)
    hits, true, found = np.diagonal(matrix), matrix.sum(1), matrix.sum(0)
    columns = (_ratio(hits, found), _ratio(hits, true), _ratio(2 * hits, true + found), true)
    return [
        {"label": label, "precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
        for label, p, r, f, n in zip(labels, *columns, strict=True)
    ]


def _drawn(truth: np.ndarray, resamples: int) -> np.ndarray:
    """The rows of each resample, shape [resamples, rows]: always the same for as many rows."""
    return np.random.default_rng(0).integers(len(truth), size=(resamples, len(truth)))


def _tails(confidence: float) -> list[float]:
    """The percentiles between which the interval lies."""
    return [50 * (1 - confidence), 50 * (1 + confidence)]


def _roc_auc_score(
    truth: np.ndarray, probabilities: np.ndarray, drawn: np.ndarray, tails: list[float]
) -> Score:
    value = roc_auc(truth, probabilities)
    if value is None:
        return Score(None)
    drawn = drawn[: max(FEWEST_RESAMPLES, RANKING_BUDGET // probabilities.size)]
    parts = np.array_split(drawn, 1 + drawn.size // RANKED_AT_ONCE)
    areas = np.concatenate([_areas(truth, probabilities, part) for part in parts])
    return Score(value, *map(float, np.nanpercentile(areas, tails)))


def _areas(truth: np.ndarray, probabilities: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Mean area under the curves for each resample of `drawn` [n, rows]; NaN without any curve.

    Computed from ranks (Mann and Whitney 1947).
    """
    from scipy.stats import rankdata

    rows = drawn.shape[1]
    areas = np.full((probabilities.shape[1], len(drawn)), np.nan)
    for label in range(probabilities.shape[1]):
        positive = truth[drawn] == label
        count = positive.sum(1)
        ranks = (rankdata(probabilities[drawn, label], axis=1) * positive).sum(1)
        pairs = count * (rows - count)
        with np.errstate(invalid="ignore", divide="ignore"):
            areas[label] = np.where(pairs > 0, (ranks - count * (count + 1) / 2) / pairs, np.nan)
    defined = ~np.isnan(areas)
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = np.nansum(areas, 0) / defined.sum(0)
    return mean


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    safe = np.where(denominator > 0, denominator, 1.0)
    return np.where(denominator > 0, numerator / safe, 0.0)
