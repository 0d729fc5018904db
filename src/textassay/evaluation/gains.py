"""How far a classifier is ahead of another one on the same rows, and whether that may be chance."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from textassay.evaluation.bootstrap import EXACT_ROWS, Counts, LabelCells, parts
from textassay.evaluation.intervals import Spread, difference_interval, spread_of
from textassay.evaluation.metrics import HEADLINE, Score, label_metrics

# So many ways to deal the rows on which two differ are all looked at; of more, some are drawn.
ALL_WAYS = 4096


@dataclass(frozen=True)
class Gain(Score):
    """A difference with its interval, and what chance says to it.

    `p` is the probability of a difference as large, were the two exchangeable. `detectable`: the
    interval leaves out 0, and p is below what it leaves to chance. Neither alone would do: with few
    rows the interval is too sure, and the test knows nothing of how large a difference is.
    """

    p: float = 1.0
    detectable: bool = False

    @property
    def direction(self) -> int:
        """1 where it is better, -1 where it is worse, 0 where that cannot be told."""
        return int(np.sign(self.value or 0)) if self.detectable else 0

    def figures(self, name: str) -> str:
        """`macro-F1 +0.041, interval +0.003 to +0.080, p = 0.031`"""
        return (
            f"{name} {self.value:+.3f}, interval {self.low:+.3f} to {self.high:+.3f}, {self.chance}"
        )

    @property
    def chance(self) -> str:
        """`p = 0.031`, or `p < 0.001`"""
        return "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"


def judged(value: float, low: float, high: float, p: float, confidence: float) -> Gain:
    """The gain of these figures."""
    detectable = not low <= 0 <= high and p <= 1 - confidence + 1e-12
    return Gain(value, low, high, p, detectable)


def paired_difference(
    truth: np.ndarray,
    ours: np.ndarray,
    theirs: np.ndarray,
    labels: int,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> dict[str, Gain]:
    """Accuracy and macro-F1 of predictions `ours` minus `theirs`, both on the same rows.

    p is of McNemar's exact test for accuracy, and for macro-F1 of the same idea: on rows where the
    two differ, either could have given either answer (Fisher's randomisation, Yeh 2000).
    """
    first = np.argmax(ours != theirs)
    if ours[first] > theirs[first]:  # one order for both: then the sides change nothing but signs
        found = paired_difference(truth, theirs, ours, labels, confidence, resamples)
        return {name: _turned(gain) for name, gain in found.items()}
    cells = LabelCells.of(truth, [ours, theirs], labels)
    value = headline_difference(cells.counts(cells.rows[None]))[0]
    spread = spread_of(cells, headline_difference, resamples)
    low, high = difference_interval(value, spread, confidence)
    only_a = int(np.sum((ours == truth) & (theirs != truth)))
    only_b = int(np.sum((ours != truth) & (theirs == truth)))
    of_macro = swap_p(cells, resamples) if cells.total <= EXACT_ROWS else normal_p(value, spread)
    chance = {"accuracy": mcnemar_p(only_a, only_b), "macro_f1": of_macro}
    return {
        name: judged(float(value[index]), float(low[index]), float(high[index]), chance[name],
                     confidence)
        for index, name in enumerate(HEADLINE)
    }  # fmt: skip


def headline_difference(counts: Sequence[Counts]) -> np.ndarray:
    """[tables, headline metrics]: the mean of all classifiers but the last, minus the last."""
    *ours, theirs = (_headline(one) for one in counts)
    difference: np.ndarray = np.mean(ours, 0) - theirs
    return difference


def mcnemar_p(only_a: int, only_b: int) -> float:
    """McNemar's exact test: of the rows that exactly one has right, A has each with 1/2.

    With k the smaller of both counts and n their sum p = min(1, 2 * sum over i <= k of
    C(n, i) / 2^n): the two-sided binomial test (Agresti 2002, section 10.1). 1 where n is 0.
    """
    from scipy.stats import binomtest

    discordant = only_a + only_b
    return float(binomtest(min(only_a, only_b), discordant, 0.5).pvalue) if discordant else 1.0


def normal_p(value: np.ndarray, spread: Spread) -> float:
    """The same for very many rows, by the error of the difference: what `swap_p` comes to."""
    from scipy.stats import t

    macro = HEADLINE.index("macro_f1")
    error = max(float(spread.error[macro]), 1e-12)
    return float(2 * t.sf(abs(value[macro]) / error, spread.freedom[macro]))


def swap_p(cells: LabelCells, draws: int) -> float:
    """The probability of a macro-F1 difference as large where the two swap answers at random.

    Exact where all ways to swap can be looked at; else from `draws` of them, the observed one
    counted among them (Phipson and Smyth 2010).
    """
    ours, theirs = cells.predicted
    differ = ours != theirs
    rows = cells.rows[differ].astype(int)
    if not len(rows):
        return 1.0
    both = LabelCells(
        np.concatenate([cells.true, cells.true[differ]]),
        [np.concatenate([ours, theirs[differ]]), np.concatenate([theirs, ours[differ]])],
        cells.rows, cells.total, cells.labels,
    )  # fmt: skip
    macro = HEADLINE.index("macro_f1")
    observed = abs(headline_difference(cells.counts(cells.rows[None]))[0, macro])
    is_exact = _ways_to_swap(rows) <= ALL_WAYS
    as_large = 0.0
    for swapped, weight in _all_ways(rows) if is_exact else _some_ways(rows, draws, len(both.true)):
        kept = np.tile(cells.rows, (len(swapped), 1))
        kept[:, differ] -= swapped
        gaps = np.abs(headline_difference(both.counts(np.hstack([kept, swapped])))[:, macro])
        as_large += float(weight[gaps >= observed - 1e-12].sum())
    return min(1.0, as_large) if is_exact else (1 + as_large) / (1 + draws)


def _ways_to_swap(rows: np.ndarray) -> float:
    return float(np.exp(np.log(rows + 1.0).sum().clip(max=100))) - 1e-6


def _all_ways(rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """How many rows of each cell swap, [ways, cells], and how probable that is, [ways]."""
    ways = np.array(list(itertools.product(*(range(count + 1) for count in rows))))
    choices = [[math.comb(count, i) / 2**count for i in range(count + 1)] for count in rows]
    shares = [np.array(chosen)[ways[:, cell]] for cell, chosen in enumerate(choices)]
    yield ways.astype(np.float64), np.prod(shares, 0)


def _some_ways(rows: np.ndarray, draws: int, width: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Part by part, how many rows of each cell swap, [ways, cells]; each counts as one."""
    random = np.random.default_rng(0)
    for size in parts(draws, width):
        yield random.binomial(rows, 0.5, size=(size, len(rows))).astype(np.float64), np.ones(size)


def _headline(counts: Counts) -> np.ndarray:
    table = label_metrics(counts)
    return np.stack([table[name] for name in HEADLINE], 1)


def _turned(gain: Gain) -> Gain:
    value, low, high = (0.0 - (one or 0.0) for one in (gain.value, gain.high, gain.low))
    return Gain(value, low, high, gain.p, gain.detectable)
