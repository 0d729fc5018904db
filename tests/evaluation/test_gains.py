"""Which of two is better, and what chance says to it, held to the definition."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from textassay.evaluation.bootstrap import LabelCells
from textassay.evaluation.gains import paired_difference, swap_p


def only_a_right(rows: int, of: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, A and B on `of` rows of two labels, of which A has all right and B not so many."""
    truth = np.arange(of) % 2
    return truth, truth, np.where(np.arange(of) < rows, 1 - truth, truth)


@pytest.mark.parametrize("rows", [2, 3, 4, 5])
def test_few_rows_prove_nothing(rows: int) -> None:
    """4 : 0, where McNemar says 0.125 and plain resamples say better."""
    found = paired_difference(*only_a_right(rows), 2)
    for gain in found.values():
        assert gain.p == pytest.approx(2 / 2**rows) and gain.direction == 0


def test_six_rows_that_only_one_has_right_are_a_difference() -> None:
    truth, ours, theirs = only_a_right(6, of=40)
    better = paired_difference(truth, ours, theirs, 2)
    worse = paired_difference(truth, theirs, ours, 2)
    for name, gain in better.items():
        assert gain.p == pytest.approx(0.03125) and gain.low > 0 and gain.direction == 1
        assert worse[name].direction == -1
        assert (worse[name].low, worse[name].high) == (-gain.high, -gain.low)
    assert "p = 0.031" in better["macro_f1"].figures("macro-F1")


def test_a_level_of_99_percent_asks_for_more() -> None:
    for gain in paired_difference(*only_a_right(6, of=40), 2, confidence=0.99).values():
        assert gain.direction == 0


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(2, 4))
def test_chance_is_counted_over_every_way_to_swap(seed: int, rows: int, labels: int) -> None:
    random = np.random.default_rng(seed)
    truth, ours, theirs = random.integers(labels, size=(3, rows))

    def gap(a: np.ndarray, b: np.ndarray) -> float:
        ours, theirs = (f1_score(truth, one, average="macro", zero_division=0) for one in (a, b))
        return abs(ours - theirs)

    as_large = [
        gap(np.where(swap, theirs, ours), np.where(swap, ours, theirs))
        >= gap(ours, theirs) - 1e-12
        for swap in itertools.product((False, True), repeat=rows)
    ]  # fmt: skip
    cells = LabelCells.of(truth, [ours, theirs], labels)
    assert swap_p(cells, 100) == pytest.approx(np.mean(as_large))


def test_drawn_and_counted_chances_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, ours, theirs = np.random.default_rng(8).integers(2, size=(3, 20))
    cells = LabelCells.of(truth, [ours, theirs], 2)
    exact = swap_p(cells, 100)
    monkeypatch.setattr("textassay.evaluation.gains.ALL_WAYS", 0)
    assert swap_p(cells, 20_000) == pytest.approx(exact, abs=0.015)


def test_macro_f1_may_differ_where_accuracy_does_not() -> None:
    """A finds the rare label and pays for it with as many rows of the frequent one."""
    truth = np.repeat([0, 1], [300, 20])
    ours = np.where(np.isin(np.arange(320), range(15)), 1, truth)
    theirs = np.where(np.arange(320) < 305, 0, truth)
    theirs[305:] = 0
    found = paired_difference(truth, ours, theirs, 2)
    assert found["macro_f1"].direction == 1
    assert found["accuracy"].direction == 0


def test_very_many_rows_are_judged_as_many_are(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(4)
    truth = random.integers(3, size=3000)
    ours, theirs = (np.where(random.random(3000) < share, truth, random.integers(3, size=3000))
                    for share in (0.8, 0.78))  # fmt: skip
    exact = paired_difference(truth, ours, theirs, 3)["macro_f1"]
    for module in ("gains", "intervals"):
        monkeypatch.setattr(f"textassay.evaluation.{module}.EXACT_ROWS", 1000)
    found = paired_difference(truth, ours, theirs, 3)["macro_f1"]
    assert 0.01 < exact.p < 0.5 and found.p == pytest.approx(exact.p, abs=0.03)
    assert found.low == pytest.approx(exact.low, abs=0.002)
    assert found.high == pytest.approx(exact.high, abs=0.002)
