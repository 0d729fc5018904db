"""Resamples of the rows of an evaluation, in bounded memory however many rows there are.

A resample draws as many rows as there are, with replacement (Efron and Tibshirani 1993). The seed
is fixed: the same predictions give the same interval, and two classifiers are scored on the same
resamples.

Scores that only depend on how often each pair of true and predicted label occurs are not computed
from rows. How often each pair is drawn follows the multinomial distribution with the observed
shares, so one draw for all pairs stands for one draw for each row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# Numbers that are held at once while resamples are drawn: 32 MB.
HELD_AT_ONCE = 4_000_000
# So many rows are resampled; beyond, what scores are on average is normal.
EXACT_ROWS = 20_000


def tails(confidence: float) -> list[float]:
    """The percentiles between which an interval lies."""
    return [50 * (1 - confidence), 50 * (1 + confidence)]


@dataclass(frozen=True)
class Counts:
    """What label scores are computed from: each array of shape [tables, labels].

    `hits` counts the rows whose label is right, `true` those that have the label, `predicted` those
    that got it.
    """

    hits: np.ndarray
    true: np.ndarray
    predicted: np.ndarray

    @classmethod
    def of(cls, matrices: np.ndarray) -> "Counts":
        """Of confusion matrices [tables, labels, labels], whose rows are true labels."""
        return cls(np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(2), matrices.sum(1))


@dataclass(frozen=True)
class LabelCells:
    """Rows counted by their true label and the one that each of some classifiers gives them.

    `true` and each of `predicted` are label ids, `rows` says how many rows have just these; all of
    shape [cells]. `total` is how many rows there are, of `labels` known labels.
    """

    true: np.ndarray
    predicted: Sequence[np.ndarray]
    rows: np.ndarray
    total: int
    labels: int

    @classmethod
    def of(cls, truth: np.ndarray, predictions: Sequence[np.ndarray], labels: int) -> "LabelCells":
        """Of label ids of shape [rows]; `predictions` has one array a classifier."""
        columns = np.stack([truth, *predictions])
        cells, first, counts = np.unique(columns, axis=1, return_index=True, return_counts=True)
        # As they come in the rows: then the order of the classifiers changes no resample.
        order = np.argsort(first)
        true, *predicted = cells[:, order]
        return cls(true, predicted, counts[order].astype(np.float64), len(truth), labels)

    def counts(self, rows: np.ndarray) -> list[Counts]:
        """The counts of each classifier where the cells have these rows, [tables, cells]."""
        true = self._sum(rows, self.true)
        return [
            Counts(self._sum(rows * (predicted == self.true), self.true), true,
                   self._sum(rows, predicted))
            for predicted in self.predicted
        ]  # fmt: skip

    def resampled(self, resamples: int) -> Iterator[list[Counts]]:
        """Part by part, the counts of each classifier on resamples of `total` rows."""
        random = np.random.default_rng(0)
        shares = self.rows / self.rows.sum()
        for size in parts(resamples, max(len(shares), self.labels)):
            yield self.counts(random.multinomial(self.total, shares, size=size).astype(np.float64))

    def _sum(self, drawn: np.ndarray, label: np.ndarray) -> np.ndarray:
        """[tables, labels] of [tables, cells]: how many rows have each label."""
        order = np.argsort(label, kind="stable")
        present, starts = np.unique(label[order], return_index=True)
        sums = np.zeros((len(drawn), self.labels))
        sums[:, present] = np.add.reduceat(drawn[:, order], starts, axis=1)
        return sums


class RowSums:
    """The resamples of numbers that belong to rows, summed over the rows of each group."""

    def __init__(self, groups: np.ndarray, values: np.ndarray, resamples: int) -> None:
        """`groups` has a small number for each row, [rows]; `values` is [rows, columns]."""
        self._groups, self._values, self._resamples = groups, values, resamples

    def sums(self) -> np.ndarray:
        """[resamples, groups, columns].

        Row by row, up to EXACT_ROWS rows. Beyond, how many rows of a group are drawn is drawn, and
        their sum from the normal distribution with the mean and the covariance of the group's rows:
        the central limit theorem, at a cost that does not grow with the rows.
        """
        rows = len(self._groups)
        random = np.random.default_rng(0)
        size = int(self._groups.max()) + 1
        if rows > EXACT_ROWS:
            return self._normal_sums(random, size)
        made = np.empty((self._resamples, size, self._values.shape[1]))
        for sums in made:
            drawn = random.integers(rows, size=rows)
            for column in range(self._values.shape[1]):
                sums[:, column] = np.bincount(
                    self._groups[drawn], self._values[drawn, column], size
                )
        return made

    def _normal_sums(self, random: np.random.Generator, size: int) -> np.ndarray:
        shares = np.bincount(self._groups, minlength=size) / len(self._groups)
        drawn = random.multinomial(len(self._groups), shares, size=self._resamples)
        columns = self._values.shape[1]
        made = np.zeros((self._resamples, size, columns))
        for group in np.flatnonzero(shares):
            values = self._values[self._groups == group]
            noise = random.multivariate_normal(
                np.zeros(columns), np.atleast_2d(np.cov(values.T, bias=True)), self._resamples
            )
            count = drawn[:, group, None]
            made[:, group] = count * values.mean(0) + np.sqrt(count) * noise
        return made


def parts(resamples: int, width: int) -> Iterator[int]:
    """How many resamples of so many numbers each are held at once, until all have been."""
    at_once = max(1, HELD_AT_ONCE // width)
    for start in range(0, resamples, at_once):
        yield min(at_once, resamples - start)
