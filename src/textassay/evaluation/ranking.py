"""The area under the ROC curve, one label against the rest, and its interval."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from textassay.evaluation.intervals import Spread, share_interval


@dataclass(frozen=True)
class _Area:
    """The area of one label, and what each row adds to it, [rows]; `fewer` rows are on one side."""

    value: float
    additions: np.ndarray
    positive: int
    negative: int

    @property
    def fewer(self) -> int:
        return min(self.positive, self.negative)


def roc_auc(truth: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Area under the ROC curve, one label against the rest, mean over the labels.

    Labels without a row, or with all rows, have no curve and do not count; None if none is left.
    """
    areas = [area.value for area in _areas(truth, probabilities)]
    return float(np.mean(areas)) if areas else None


def roc_auc_interval(
    truth: np.ndarray, probabilities: np.ndarray, confidence: float
) -> tuple[float, float, float] | None:
    """`roc_auc` with its low and high; None where it has no value.

    How far an area scatters is DeLong's variance (DeLong, DeLong and Clarke-Pearson 1988), or that
    of Hanley and McNeil in Newcombe's form (2006) where it is larger: the first is 0 where a label
    has one row or all rows are in order. The interval is that of `share_interval`.
    """
    middle = _middle(truth, probabilities)
    if middle is None:
        return None
    influence, errors, values, centres, fewer = np.zeros(len(truth)), [], [], [], []
    unseen = []
    for area in _areas(truth, probabilities):
        centre = (area.value * area.fewer + middle) / (area.fewer + 1)
        own = float((area.additions**2).sum())
        variance = max(own, _variance(centre, area.positive, area.negative))
        if own > 1e-18:
            influence += area.additions * np.sqrt(variance / own)
        else:
            unseen.append(variance)
        values.append(area.value)
        centres.append(centre)
        errors.append(variance)
        fewer.append(area.fewer)
    # Of two labels one has the other's area: that is one label's worth of knowledge.
    alike = 2 if probabilities.shape[1] == 2 else 1
    variance = ((influence**2).sum() + alike * sum(unseen)) / len(values) ** 2
    parts, rows = np.array(errors), np.array(fewer)
    freedom = parts.sum() ** 2 / (parts**2 / rows).sum() / alike  # as in intervals.py
    figures = np.sqrt(variance), 0.0, max(freedom, 1.0), np.mean(centres)
    value = np.array([np.mean(values)])
    spread = Spread(*(np.array([figure]) for figure in figures))
    low, high = share_interval(value, spread, confidence, np.zeros(1))
    return float(value[0]), float(low[0]), float(high[0])


def _middle(truth: np.ndarray, probabilities: np.ndarray) -> float | None:
    """The mean area, with one more of 1/2: what a label is taken for of which no row is known."""
    areas = [area.value for area in _areas(truth, probabilities)]
    return (sum(areas) + 0.5) / (len(areas) + 1) if areas else None


def _variance(area: float, positive: int, negative: int) -> float:
    """Of an area of so many positive and negative rows, by the area alone (Newcombe's method 5)."""
    rows = (positive + negative) / 2 - 1
    both = 1 + rows * (1 - area) / (2 - area) + rows * area / (1 + area)
    return area * (1 - area) * both / (positive * negative)


def _areas(truth: np.ndarray, probabilities: np.ndarray) -> Iterator[_Area]:
    """The area of each label that has one.

    An area is the share of pairs of a positive and a negative row whose scores are in the right
    order (Mann and Whitney 1947). A positive row adds the share of negative ones below it, a
    negative row the share of positive ones above it.
    """
    rows, labels = probabilities.shape
    for label in range(labels):
        positive = int(np.count_nonzero(truth == label))
        negative = rows - positive
        if not positive or not negative:
            continue
        order, starts = _ties(probabilities[:, label])
        is_positive = truth[order] == label
        sizes = np.diff(starts, append=rows)
        tied = np.add.reduceat(is_positive, starts, dtype=np.int64)
        lower, above = _below(sizes - tied), positive - _below(tied)
        area = float((lower * tied).sum() / positive / negative)
        shares = np.where(
            is_positive, np.repeat(lower, sizes) / negative, np.repeat(above, sizes) / positive
        )
        own = np.where(is_positive, positive, negative)
        additions = np.empty(rows)
        additions[order] = (shares - area) / np.sqrt(own * np.maximum(own - 1, 1))
        yield _Area(area, additions, positive, negative)


def _ties(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows by their score, and where in that order each run of equal scores starts."""
    order = np.argsort(scores)
    ordered = scores[order]
    return order, np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _below(counts: np.ndarray) -> np.ndarray:
    """How many are below each run of equal scores, those in it counting half; same shape."""
    below: np.ndarray = np.cumsum(counts) - counts / 2
    return below
