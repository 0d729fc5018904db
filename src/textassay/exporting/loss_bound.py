"""How much macro-F1 may have been lost at most, where few rows show a loss.

Quantising changes the labels of a handful of rows. Resampling such rows (a bootstrap) gives an
interval that is too short: where no label changed it has no width at all. So the bound is found by
testing: a loss is ruled out if so small a loss as the observed one would be rare under it.

A change of a row's label costs so much macro-F1, depending on its true label and on the two
predicted ones. How often each way of changing occurs is taken as a Poisson count. Under a loss that
is tested, the rates are the likeliest ones that lose exactly that much, as in Tango's score
interval for paired proportions (1998); the probability is computed from these counts instead of
from a normal distribution, which is wrong for few of them. Ways that no row showed may be what
loses: one of them, the dearest, has a rate as well.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from textassay.evaluation.metrics import confusions

DRAWS = 20_000
# How exactly a bound is found, in macro-F1 of 1.
EXACT = 1e-5


@dataclass(frozen=True)
class Changes:
    """How labels changed on `rows` rows.

    `counts` is how many rows changed in each way, `costs` what one of them costs, in macro-F1 times
    `rows`, both of shape [ways]; a gain costs less than nothing. The last way is the dearest that
    could have occurred.
    """

    rows: int
    counts: np.ndarray
    costs: np.ndarray

    @classmethod
    def of(cls, truth: np.ndarray, before: np.ndarray, after: np.ndarray, labels: int) -> "Changes":
        """Of label ids of shape [rows]."""
        tables = confusions(truth, np.stack([before, after]), labels).astype(np.float64)
        costs = _costs(tables.mean(0))
        ways = np.stack([truth, before, after])[:, before != after]
        seen, counts = np.unique(ways, axis=1, return_counts=True)
        return cls(
            len(truth),
            np.append(counts, 0),
            np.append(costs[tuple(seen)], _dearest(costs, tables[0])),
        )

    @property
    def loss(self) -> float:
        """What was lost on these rows, to first order."""
        return float(self.counts @ self.costs) / self.rows

    @property
    def likely_worst(self) -> float:
        """A 95% bound by the normal distribution: too low where few rows changed, but quick."""
        return self.loss + 1.645 * float(np.sqrt(self.counts @ self.costs**2)) / self.rows

    def chance(self, loss: float) -> float:
        """How probable so small a loss as that of these rows is, where the true one is `loss`."""
        if loss <= self.loss:
            return 1.0
        expected = self._likeliest(loss * self.rows)
        drawn = np.random.default_rng(0).poisson(expected, (DRAWS, len(expected))) @ self.costs
        return float(np.mean(drawn <= self.counts @ self.costs + EXACT))

    def worst(self, risk: float) -> float:
        """The largest loss that is not ruled out: `chance` of it is above `risk`."""
        low, high = self.loss, 1.0
        while high - low > EXACT:
            middle = (low + high) / 2
            low, high = (middle, high) if self.chance(middle) > risk else (low, middle)
        return high

    def best(self, risk: float) -> float:
        """The smallest loss that is not ruled out: the bound of `worst` from the other side."""
        gains = np.append(-self.costs[:-1], self.costs[-1])
        return -Changes(self.rows, self.counts, gains).worst(risk)

    def _likeliest(self, lost: float) -> np.ndarray:
        """The likeliest counts to expect, [ways], that cost `lost`: more than the observed ones."""

        def expected(multiplier: float) -> np.ndarray:
            return self.counts / (1 - multiplier * self.costs)

        largest = (1 - 1e-9) / self.costs.max()
        remains = lost - expected(largest) @ self.costs
        if remains >= 0:  # what was seen cannot cost so much
            rates = expected(largest)
            rates[-1] += remains / self.costs[-1]
            return rates
        return expected(brentq(lambda m: expected(m) @ self.costs - lost, 0.0, largest))


def _costs(table: np.ndarray) -> np.ndarray:
    """What a change from one label to another costs, times rows: [true, before, after].

    The derivative of macro-F1 at a confusion matrix [true, predicted], over the labels that occur.
    """
    sizes = table.sum(0) + table.sum(1)
    present = sizes > 0
    sizes = np.where(present, sizes, 1.0)
    one_hit, one_more = 2 / sizes, 2 * np.diag(table) / sizes**2
    hit = np.eye(len(table)) * one_hit  # [true, predicted]
    value = (hit - one_more) * present  # of one row more in a cell
    return (value[:, :, None] - value[:, None, :]) * table.sum() / present.sum()


def _dearest(costs: np.ndarray, before: np.ndarray) -> float:
    """The cost of the dearest change of a row that was right."""
    right = np.flatnonzero(np.diag(before))
    return max((float(costs[label, label].max()) for label in right), default=1.0)
