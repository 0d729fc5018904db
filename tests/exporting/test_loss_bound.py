"""The bound on a loss is wrong as rarely as it says, above all where few labels change."""

from functools import cache

import numpy as np
import pytest
from scipy.stats import binom

from textassay.exporting.loss_bound import Changes
from textassay.exporting.verdict import LOSS_ALLOWED, RISK

SAMPLES = 800


@cache
def changes(sizes: tuple[int, int], hits: tuple[int, int], lost: tuple[int, int],
            mended: tuple[int, int] = (0, 0)) -> Changes:  # fmt: skip
    """Of two labels with so many rows, so many of them right before, so many lost and mended."""
    truth, before, after = [], [], []
    for label in (0, 1):
        wrong = sizes[label] - hits[label]
        truth += [label] * sizes[label]
        before += [label] * hits[label] + [1 - label] * wrong
        after += [1 - label] * lost[label] + [label] * (hits[label] - lost[label] + mended[label])
        after += [1 - label] * (wrong - mended[label])
    return Changes.of(*map(np.array, (truth, before, after)), 2)


@cache
def is_proven(*counts: tuple[int, int]) -> bool:
    return changes(*counts).chance(LOSS_ALLOWED) <= RISK


@pytest.mark.parametrize(
    ("sizes", "right", "lost", "mended"),
    [
        ((436, 436), 0.88, (1, 1), 0.00),
        ((436, 436), 0.88, (1, 1), 0.05),
        ((500, 500), 0.90, (1, 1), 0.00),
        ((1500, 1500), 0.90, (1, 1), 0.10),
        ((1800, 200), 0.90, (0, 1), 0.00),
        ((1800, 200), 0.90, (1, 1), 0.03),
    ],
    ids=["losses", "gains too", "other counts", "many changes", "a rare label", "rare, with gains"],
)
def test_a_loss_at_the_limit_passes_in_5_percent_at_most(
    sizes: tuple[int, int], right: float, lost: tuple[int, int], mended: float
) -> None:
    """Rows are lost and mended at random, at rates that lose exactly what is allowed.

    A percentile bootstrap lets 9 to 15% pass.
    """
    hits = tuple(round(size * right) for size in sizes)
    wrong = np.subtract(sizes, hits)
    cost, gain = (
        np.array([changes(sizes, hits, *ways).costs[0] for ways in each])
        for each in ([((1, 0),), ((0, 1),)], [((0, 0), (1, 0)), ((0, 0), (0, 1))])
    )
    rate = (LOSS_ALLOWED * sum(sizes) - mended * wrong @ gain) / (np.multiply(hits, lost) @ cost)
    random = np.random.default_rng(0)
    losses = random.binomial(hits, rate * np.array(lost), size=(SAMPLES, 2)).tolist()
    mends = random.binomial(wrong, mended, size=(SAMPLES, 2)).tolist()
    passed = [
        is_proven(sizes, hits, tuple(a), tuple(b)) for a, b in zip(losses, mends, strict=True)
    ]
    assert np.mean(passed) <= RISK + 2 * np.sqrt(RISK * (1 - RISK) / SAMPLES)


def test_without_gains_the_bound_is_that_of_clopper_and_pearson() -> None:
    for lost in (0, 1, 2, 5):
        worst = changes((1000, 1000), (1000, 1000), (lost, 0)).worst(RISK)
        assert binom.cdf(lost, 2000, worst) == pytest.approx(RISK, rel=0.1)


def test_a_loss_of_nothing_passes_on_rows_enough() -> None:
    assert is_proven((400, 400), (350, 350), (0, 0), (0, 0))
    assert not is_proven((250, 250), (225, 225), (0, 0), (0, 0))
    assert is_proven((5000, 5000), (4500, 4500), (10, 10), (10, 10))


def test_costs_add_up_to_what_macro_f1_loses() -> None:
    from sklearn.metrics import f1_score

    random = np.random.default_rng(0)
    truth = random.choice(3, p=[0.6, 0.3, 0.1], size=3000)
    before = np.where(random.random(3000) < 0.8, truth, random.integers(3, size=3000))
    after = np.where(random.random(3000) < 0.02, random.integers(3, size=3000), before)
    found = Changes.of(truth, before, after, 3)
    lost = f1_score(truth, before, average="macro") - f1_score(truth, after, average="macro")
    assert found.loss == pytest.approx(lost, rel=0.01)
    assert found.best(RISK) < found.loss < found.worst(RISK)


def test_a_sure_gain_has_a_bound_below_no_loss() -> None:
    found = changes((1000, 1000), (900, 900), (0, 0), (20, 20))
    assert found.loss < found.worst(RISK) < 0
