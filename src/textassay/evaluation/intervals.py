"""Intervals for scores that depend on labels alone.

The percentile interval of plain resamples is too narrow where a label has few rows: a label whose
one row is right is right in every resample, and one that a resample lacks does not count there.
What is done instead (simulated in tests/evaluation/test_coverage.py, reasons in decision 0020):

1. Every label that occurs gets one more row, right with a probability between 1/2 and the mean
   recall. Resamples of these rows say how far a score scatters, and how far it leans to one side.
2. A score between 0 and 1 has Wilson's interval (Wilson 1927) for as many rows as would scatter a
   plain share so far: its effective sample size (Korn and Graubard 1998). For accuracy that is
   Wilson's interval. A difference has the interval of the normal distribution.
3. A score that hangs on the few rows of a label has the t distribution's longer reach, with the
   degrees of freedom of Satterthwaite (1946), the labels being the parts of the variance.
4. Where the score leans, the interval reaches from where it would be with the leaning to where it
   would be without.

Beyond EXACT_ROWS rows nothing is resampled: the delta method says how far a score scatters, and it
does not lean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from textassay.evaluation.bootstrap import EXACT_ROWS, Counts, LabelCells, parts

# Scores of n tables of counts, one for each classifier: of shape [n, scores].
Statistic = Callable[[Sequence[Counts]], np.ndarray]
# What a derivative is measured over, as a share of all rows.
STEP = 1e-6


@dataclass(frozen=True)
class Spread:
    """How far scores scatter over test sets of this size; each array of shape [scores].

    `error` is the standard deviation, `lean` how far the mean lies from what is estimated,
    `freedom` the error's degrees of freedom, `centre` the score of the rows that were resampled.
    """

    error: np.ndarray
    lean: np.ndarray
    freedom: np.ndarray
    centre: np.ndarray

    def reach(self, confidence: float) -> np.ndarray:
        """How many errors an interval reaches to either side."""
        from scipy.stats import t

        reach: np.ndarray = t.ppf(0.5 + confidence / 2, self.freedom)
        return reach


def spread_of(cells: LabelCells, statistic: Statistic, resamples: int) -> Spread:
    """How far a statistic of the rows in `cells` scatters."""
    smoothed = _with_more_rows(cells)
    shares = smoothed.rows / smoothed.rows.sum()
    centre = statistic(smoothed.counts(shares[None] * smoothed.total))[0]
    known = np.bincount(cells.true, cells.rows, cells.labels) + 1
    error, freedom = _error(smoothed, shares, known, statistic, centre)
    if cells.total > EXACT_ROWS:
        return Spread(error, np.zeros_like(error), freedom, centre)
    drawn = np.concatenate([statistic(counts) for counts in smoothed.resampled(resamples)])
    return Spread(drawn.std(0), drawn.mean(0) - centre, freedom, centre)


def share_interval(
    value: np.ndarray, spread: Spread, confidence: float, lowest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Low and high for scores between `lowest` and 1, each of shape [scores]."""
    size, reach = 1 - lowest, spread.reach(confidence)
    centre = np.clip((spread.centre - lowest) / size, 1e-6, 1 - 1e-6)
    error = np.maximum(spread.error / size, 1e-9)
    rows = centre * (1 - centre) / error**2
    bounds = []
    for leaning in (np.zeros_like(value), spread.lean):
        share = np.clip((value - leaning - lowest) / size, 0, 1)
        middle = (share + reach**2 / rows / 2) / (1 + reach**2 / rows)
        half = np.sqrt(share * (1 - share) / rows + (reach / rows / 2) ** 2) * reach
        half = half / (1 + reach**2 / rows)
        bounds.append((middle - half, middle + half))
    lows, highs = zip(*bounds, strict=True)
    low, high = np.minimum(*lows), np.maximum(*highs)
    return np.maximum(low, 0) * size + lowest, np.minimum(high, 1) * size + lowest


def difference_interval(
    value: np.ndarray, spread: Spread, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Low and high for differences between -1 and 1, each of shape [scores]."""
    half = spread.reach(confidence) * spread.error
    low = value - np.maximum(spread.lean, 0) - half
    high = value - np.minimum(spread.lean, 0) + half
    return np.maximum(low, -1), np.minimum(high, 1)


def _with_more_rows(cells: LabelCells) -> LabelCells:
    """One more row for each label that occurs, cut into parts that are right and wrong.

    A wrong one has the next label. The last of several classifiers is compared with the others: in
    a part either is right as often and the other wrong, and that is one row of all labels together
    at least, as Agresti and Min (2005) add to such tables. There the row takes its weight from the
    label's other rows: with three rows a label scatters as three rows do, and not as four.
    """
    counts = cells.counts(cells.rows[None])
    true = counts[0].true[0]
    occurs = np.flatnonzero(true + sum(one.predicted[0] for one in counts))
    recalls = [one.hits[0][true > 0] / true[true > 0] for one in counts]
    mean = (np.sum(np.mean(recalls, 0)) + 0.5) / (np.count_nonzero(true) + 1)
    right = (mean + 0.5) / 2
    wrong = np.roll(occurs, -1) if len(occurs) > 1 else (occurs + 1) % cells.labels
    count = len(occurs)
    answers: list[tuple[tuple[np.ndarray, ...], float]]
    if len(counts) == 1:
        answers = [((occurs,), right), ((wrong,), 1 - right)]
    else:
        others = len(counts) - 1
        apart = max((_disagreement(cells) + 1) / (cells.total + 2), 1 / count)
        answers = [
            ((occurs,) * others + (occurs,), (1 - apart) * right),
            ((wrong,) * others + (wrong,), (1 - apart) * (1 - right)),
            ((occurs,) * others + (wrong,), apart / 2),
            ((wrong,) * others + (occurs,), apart / 2),
        ]
    trues = np.concatenate([cells.true, *(occurs for _ in answers)])
    rows = np.concatenate([cells.rows, *(np.full(count, weight) for _, weight in answers)])
    if len(counts) > 1:
        rows *= np.where(true > 0, true / (true + 1), 1)[trues]
    predicted = [np.concatenate([own, *(given[index] for given, _ in answers)])
                 for index, own in enumerate(cells.predicted)]  # fmt: skip
    return LabelCells(trues, predicted, rows, cells.total, cells.labels)


def _disagreement(cells: LabelCells) -> float:
    """On how many rows the last classifier is right and another is not, or the other way."""
    *others, last = (predicted == cells.true for predicted in cells.predicted)
    return float(np.mean([np.sum(cells.rows * (one != last)) for one in others]))


def _error(
    cells: LabelCells,
    shares: np.ndarray,
    known: np.ndarray,
    statistic: Statistic,
    centre: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The standard error of a statistic by its derivatives, and its degrees of freedom, [scores].

    The first is the delta method's, right for many rows. For the second the rows of each label are
    one part of the variance; so many of each are `known`, [labels].
    """
    sums, squares = (np.zeros((cells.labels, len(centre))) for _ in range(2))
    start = 0
    for size in parts(len(shares), cells.labels * max(1, len(cells.predicted))):
        part = slice(start, start + size)
        start += size
        slope = (statistic(_nudged(cells, shares, part)) - centre) / STEP
        np.add.at(sums, cells.true[part], shares[part, None] * slope)
        np.add.at(squares, cells.true[part], shares[part, None] * slope**2)
    rows = np.bincount(cells.true, cells.rows, cells.labels)[:, None]
    share = np.maximum(rows / rows.sum(), 1e-300)
    variance = np.maximum(squares - sums**2 / share, 0)
    whole = variance.sum(0)
    freedom = whole**2 / np.maximum((variance**2 / known[:, None]).sum(0), 1e-300)
    freedom = np.where(whole > 1e-12, np.maximum(freedom, 1), max(cells.total, 1))
    scatter = squares.sum(0) - sums.sum(0) ** 2
    return np.sqrt(np.maximum(scatter, 0) / max(cells.total, 1)), freedom


def _nudged(cells: LabelCells, shares: np.ndarray, part: slice) -> list[Counts]:
    """The counts where each cell of the part has STEP more of all rows, and all cells STEP less."""
    known = np.arange(cells.labels)
    more = STEP * cells.total
    true = cells.true[part, None]
    nudged = []
    whole = cells.counts(shares[None] * cells.total)
    for counts, labels in zip(whole, cells.predicted, strict=True):
        predicted = labels[part, None]
        nudged.append(Counts(
            counts.hits * (1 - STEP) + more * ((true == known) & (predicted == known)),
            counts.true * (1 - STEP) + more * (true == known),
            counts.predicted * (1 - STEP) + more * (predicted == known),
        ))  # fmt: skip
    return nudged
