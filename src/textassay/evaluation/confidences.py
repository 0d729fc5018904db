"""How well probabilities are meant: log loss and calibration error, with their intervals.

Both hang on what has not been seen: rows that are all right say nothing of what a wrong one costs,
and resamples of them are sure of it. tests/evaluation/test_coverage.py simulates what is done.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textassay.evaluation.bootstrap import RowSums, tails

ECE_BINS = 15
# Probabilities below are taken for this: one row costs 28 nats at most.
LOWEST = 1e-12


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative log-probability (nats) of the true label."""
    return float(_losses(truth, probabilities).mean())


def log_loss_interval(
    truth: np.ndarray, probabilities: np.ndarray, confidence: float
) -> tuple[float, float]:
    """Low and high: Student's t over the rows' losses, and one row more that may be wrong.

    It costs what the rows would cost on average if the label with the next probability were right,
    and counts as much as its label is likely to be wrong: between 1/2 and the share of wrong rows.
    Few rows cost much, so the high end is further off by what this skewness adds (Hall 1992, 3.10).
    """
    losses = _losses(truth, probabilities)
    predicted = probabilities.argmax(1)
    next_best = np.array(probabilities)
    np.put_along_axis(next_best, predicted[:, None], 0, axis=1)
    if_wrong = float(-np.log(np.maximum(next_best.max(1), LOWEST)).mean())
    right = (np.count_nonzero(predicted == truth) + 0.5) / (len(truth) + 1)
    weight = 1 - (right + 0.5) / 2
    return _around_mean(losses, confidence, if_wrong, weight)


def _around_mean(
    values: np.ndarray, confidence: float, another: float, weight: float
) -> tuple[float, float]:
    """Low and high for the mean of values that are not below 0; `another` counts `weight`."""
    from scipy.stats import t

    rows = len(values)
    weights = np.append(np.ones(rows), weight) / (rows + weight)
    deviations = np.append(values, another)
    deviations -= weights @ deviations
    variance = max(float(weights @ deviations**2), 1e-18)
    skewness = max(float(weights @ deviations**3) / variance**1.5, 0.0)
    reach = float(t.ppf(0.5 + confidence / 2, max(rows - 1, 1)))
    further = skewness * (1 + 2 * reach**2) / 6 / np.sqrt(rows)
    error, value = np.sqrt(variance / max(rows - 1, 1)), float(values.mean())
    return max(0.0, value - float(error * reach)), value + float(error * (reach + further))


def expected_calibration_error(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean gap between confidence and accuracy over 15 equal bins (Guo et al. 2017)."""
    confidence, right, bins = _binned(truth, probabilities)
    gap = np.bincount(bins, weights=right - confidence, minlength=ECE_BINS)
    return float(np.abs(gap).sum() / len(truth))


def calibration_error_interval(
    truth: np.ndarray, probabilities: np.ndarray, confidence: float
) -> tuple[float, float]:
    """Low and high of the expected calibration error, which chance alone makes larger than it is.

    Where the gap of a bin is no larger than chance makes it, the true gap may be 0. So the interval
    begins below the sum of the gaps without what chance has added to each, and ends above that of
    the gaps as they are. A bin scatters as its rows do, or as its confidences say, if that is more.
    """
    from scipy.special import ndtri

    sure, right, bins = _binned(truth, probabilities)
    rows = len(truth)
    gaps = np.bincount(bins, right - sure, ECE_BINS) / rows
    found = np.bincount(bins, (right - sure) ** 2, ECE_BINS)
    said = np.bincount(bins, sure * (1 - sure), ECE_BINS)
    variance = np.maximum(found, said) / rows**2
    half = float(ndtri(0.5 + confidence / 2) * np.sqrt(variance.sum() + 0.25 / rows**2))
    without_chance = float(np.sqrt(np.maximum(gaps**2 - variance, 0)).sum())
    return max(0.0, without_chance - half), min(1.0, float(np.abs(gaps).sum()) + half)


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


def changes_over_resamples(
    truth: np.ndarray, before: np.ndarray, after: np.ndarray, confidence: float, resamples: int
) -> dict[str, tuple[float, float]]:
    """Low and high of log loss and ECE of `after` minus `before`, on the same resamples."""
    first, second = _resampled(truth, [before, after], resamples)
    bounds = {}
    for name in CALIBRATED:
        low, high = np.percentile(second[name] - first[name], tails(confidence))
        bounds[name] = float(low), float(high)
    return bounds


def _resampled(
    truth: np.ndarray, probabilities: Sequence[np.ndarray], resamples: int
) -> list[dict[str, np.ndarray]]:
    """Log loss and ECE on the same resamples, each of shape [resamples], for each classifier."""
    columns, bins_of = [], []
    for each in probabilities:
        confidence, right, bins = _binned(truth, each)
        columns += [_losses(truth, each), right - confidence]
        bins_of.append(bins)
    cells, groups = np.unique(np.stack(bins_of), axis=1, return_inverse=True)
    sums = RowSums(groups.reshape(-1), np.stack(columns, 1), resamples).sums() / len(truth)
    scores = []
    for index in range(len(probabilities)):
        in_bin = cells[index] == np.arange(ECE_BINS)[:, None]
        gaps = sums[:, :, 2 * index + 1] @ in_bin.T
        scores.append({"log_loss": sums[:, :, 2 * index].sum(1), "ece": np.abs(gaps).sum(1)})
    return scores


def _losses(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The negative log-probability of the true label of each row, [rows]."""
    chosen = probabilities[np.arange(len(truth)), truth]
    losses: np.ndarray = -np.log(np.maximum(chosen, LOWEST))
    return losses


def _binned(
    truth: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The confidence of each row, whether its label is right, and its bin; each of shape [rows]."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == truth
    return confidence, right, np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)


# The metrics that calibration is about.
CALIBRATED = {"log_loss": log_loss, "ece": expected_calibration_error}
INTERVALS = {"log_loss": log_loss_interval, "ece": calibration_error_interval}
