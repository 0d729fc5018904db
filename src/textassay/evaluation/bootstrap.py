"""Resamples of the rows of an evaluation, in bounded memory however many rows there are.

A resample draws as many rows as there are, with replacement; an interval is the percentile interval
of what a score is on the resamples (Efron and Tibshirani 1993, chapter 13). The seed is fixed: the
same predictions give the same interval, and two classifiers are scored on the same resamples.

Scores that only depend on how often each pair of true and predicted label occurs are not computed
from rows. How often each pair is drawn follows the multinomial distribution with the observed
shares, so one draw for all pairs stands for one draw for each row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# Numbers that are held at once while resamples are drawn: 32 MB.
HELD_AT_ONCE = 4_000_000
# So many rows are drawn one by one where a score depends on more than labels.
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


class PairedResamples:
    """The resamples of rows with a true label and a predicted one from each of some classifiers."""

    def __init__(
        self, truth: np.ndarray, predictions: Sequence[np.ndarray], labels: int, resamples: int
    ) -> None:
        """Label ids of shape [rows]; `predictions` has one array a classifier."""
        columns = np.stack([truth, *predictions])
        cells, first, counts = np.unique(columns, axis=1, return_index=True, return_counts=True)
        # As they come in the rows: then the order of the classifiers changes no resample.
        order = np.argsort(first)
        self._rows = len(truth)
        self._shares = counts[order] / self._rows
        self._true, *self._predicted = cells[:, order]
        self._labels = labels
        self._resamples = resamples

    def counts(self) -> Iterator[list[Counts]]:
        """Part by part, the counts of each classifier on the resamples of that part."""
        random = np.random.default_rng(0)
        for size in _parts(self._resamples, max(len(self._shares), self._labels)):
            drawn = random.multinomial(self._rows, self._shares, size=size).astype(np.float64)
            true = self._sum(drawn, self._true)
            yield [
                Counts(self._sum(drawn * (predicted == self._true), self._true), true,
                       self._sum(drawn, predicted))
                for predicted in self._predicted
            ]  # fmt: skip

    def _sum(self, drawn: np.ndarray, label: np.ndarray) -> np.ndarray:
        """[resamples, labels] of [resamples, cells]: how many drawn rows have each label."""
        order = np.argsort(label, kind="stable")
        present, starts = np.unique(label[order], return_index=True)
        sums = np.zeros((len(drawn), self._labels))
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


def row_weights(rows: int, resamples: int) -> Iterator[np.ndarray]:
    """Part by part, how often each row is drawn by each resample: [resamples of the part, rows]."""
    random = np.random.default_rng(0)
    for size in _parts(resamples, rows):
        drawn = random.integers(rows, size=(size, rows)) + np.arange(size)[:, None] * rows
        yield np.bincount(drawn.reshape(-1), minlength=size * rows).reshape(size, rows)


def _parts(resamples: int, width: int) -> Iterator[int]:
    """How many resamples of so many numbers each are held at once, until all have been."""
    at_once = max(1, HELD_AT_ONCE // width)
    for start in range(0, resamples, at_once):
        yield min(at_once, resamples - start)
