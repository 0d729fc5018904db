"""Scores of a classifier, each with its interval (see `intervals.py` and `bootstrap.py`)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textassay.evaluation.bootstrap import (
    EXACT_ROWS,
    Counts,
    LabelCells,
    RowSums,
    row_weights,
    tails,
)
from textassay.evaluation.intervals import share_interval, spread_of
from textassay.models.probabilities import softmax

ECE_BINS = 15
LOWER_IS_BETTER = ("loss", "log_loss", "ece")
# Ranking is slow: rows times labels times resamples that it may cost, and the fewest resamples.
RANKING_BUDGET = 20_000_000
FEWEST_RESAMPLES = 200
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
    scores |= probability_scores(truth, softmax(logits), confidence, resamples)
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
    truth: np.ndarray, probabilities: np.ndarray, confidence: float = 0.95, resamples: int = 2000
) -> dict[str, Score]:
    """The metrics of `NAMES` that a temperature changes: log_loss, ece, and roc_auc a little."""
    scores = {"roc_auc": _roc_auc_score(truth, probabilities, confidence, resamples)}
    (spread,) = _calibration_resamples(truth, [probabilities], resamples)
    for name, function in CALIBRATED.items():
        scores[name] = _score(function(truth, probabilities), spread[name], confidence)
    return scores


def _score(value: float, spread: np.ndarray, confidence: float) -> Score:
    return Score(value, *map(float, np.percentile(spread, tails(confidence))))


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


def roc_auc(truth: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Area under the ROC curve, one label against the rest, mean over the labels.

    Labels without a row, or with all rows, have no curve and do not count; None if none is left.
    """
    area = _areas(truth, probabilities, np.ones((1, len(truth))))[0]
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
    spreads = _calibration_resamples(truth, [before, after], resamples)
    return {
        name: _score(function(truth, after) - function(truth, before),
                     spreads[1][name] - spreads[0][name], confidence)
        for name, function in CALIBRATED.items()
    }  # fmt: skip


def _calibration_resamples(
    truth: np.ndarray, probabilities: Sequence[np.ndarray], resamples: int
) -> list[dict[str, np.ndarray]]:
    """Log loss and ECE on the same resamples, each of shape [resamples], for each classifier."""
    chosen = np.arange(len(truth)), truth
    columns, bins_of = [], []
    for each in probabilities:
        confidence, right, bins = _binned(truth, each)
        columns += [-np.log(np.maximum(each[chosen], 1e-12)), right - confidence]
        bins_of.append(bins)
    cells, groups = np.unique(np.stack(bins_of), axis=1, return_inverse=True)
    sums = RowSums(groups.reshape(-1), np.stack(columns, 1), resamples).sums() / len(truth)
    scores = []
    for index in range(len(probabilities)):
        in_bin = cells[index] == np.arange(ECE_BINS)[:, None]
        gaps = sums[:, :, 2 * index + 1] @ in_bin.T
        scores.append({"log_loss": sums[:, :, 2 * index].sum(1), "ece": np.abs(gaps).sum(1)})
    return scores


def per_class(truth: np.ndarray, predicted: np.ndarray, labels: Sequence[str]) -> list[dict]:
    """Precision, recall, F1 and rows of every label, in the labels' order."""
    matrix = confusions(truth, predicted[None], len(labels))[0].astype(np.float64)
    hits, true, found = np.diagonal(matrix), matrix.sum(1), matrix.sum(0)
    columns = (_ratio(hits, found), _ratio(hits, true), _ratio(2 * hits, true + found), true)
    return [
        {"label": label, "precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
        for label, p, r, f, n in zip(labels, *columns, strict=True)
    ]


def _roc_auc_score(
    truth: np.ndarray, probabilities: np.ndarray, confidence: float, resamples: int
) -> Score:
    value = roc_auc(truth, probabilities)
    if value is None:
        return Score(None)
    if len(truth) > EXACT_ROWS:
        return _roc_auc_of_many(truth, probabilities, value, confidence)
    count = min(resamples, max(FEWEST_RESAMPLES, RANKING_BUDGET // probabilities.size))
    parts = [_areas(truth, probabilities, part) for part in row_weights(len(truth), count)]
    return Score(value, *map(float, np.nanpercentile(np.concatenate(parts), tails(confidence))))


def _roc_auc_of_many(
    truth: np.ndarray, probabilities: np.ndarray, value: float, confidence: float
) -> Score:
    """The interval from the area's standard error (DeLong, DeLong and Clarke-Pearson 1988).

    What a row adds to a label's area: a positive row the share of negative ones below it, a
    negative row the share of positive ones above it. The mean over the labels is the mean of these.
    """
    from scipy.special import ndtri

    rows = len(truth)
    influence = np.zeros(rows)
    labels = [label for label in range(probabilities.shape[1])
              if 0 < np.count_nonzero(truth == label) < rows]  # fmt: skip
    for label in labels:
        order, starts = _ties(probabilities[:, label])
        positive = truth[order] == label
        count = np.count_nonzero(positive)
        share = np.where(positive, count, rows - count)
        sizes = np.diff(starts, append=rows)
        tied = np.add.reduceat(positive, starts, dtype=np.int64)
        lower, above = _below(sizes - tied), count - _below(tied)
        addition = np.where(positive, np.repeat(lower, sizes), np.repeat(above, sizes))
        area = (lower * tied).sum() / count / (rows - count)
        influence[order] += (addition / (rows - share) - area) * rows / share
    error = influence.std() / len(labels) / np.sqrt(rows)
    reach = float(ndtri(0.5 + confidence / 2) * error)
    return Score(value, max(0.0, value - reach), min(1.0, value + reach))


def _areas(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean area under the curves for each resample, [resamples]; NaN without any curve.

    `weights` says how often each row is drawn, [resamples, rows]. An area is the share of pairs of
    a positive and a negative row whose scores are in the right order (Mann and Whitney 1947).
    """
    areas = np.full((probabilities.shape[1], len(weights)), np.nan)
    for label in range(probabilities.shape[1]):
        order, starts = _ties(probabilities[:, label])
        drawn = weights[:, order]
        positive = np.add.reduceat(drawn * (truth[order] == label), starts, axis=1)
        negative = np.add.reduceat(drawn, starts, axis=1) - positive
        pairs = positive.sum(1).astype(np.float64) * negative.sum(1)
        right = (positive * _below(negative)).sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            areas[label] = np.where(pairs > 0, right / pairs, np.nan)
    defined = ~np.isnan(areas)
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = np.nansum(areas, 0) / defined.sum(0)
    return mean


def _ties(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows by their score, and where in that order each run of equal scores starts."""
    order = np.argsort(scores)
    ordered = scores[order]
    return order, np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _below(counts: np.ndarray) -> np.ndarray:
    """How many are below each run of equal scores, those in it counting half; same shape."""
    below: np.ndarray = np.cumsum(counts, axis=-1) - counts / 2
    return below


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    safe = np.where(denominator > 0, denominator, 1.0)
    return np.where(denominator > 0, numerator / safe, 0.0)
