"""What sets two classifiers apart is arithmetic that can be checked."""

import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as reference
from hypothesis import given
from hypothesis import strategies as st
from tests.comparisons_for_tests import FEW, LABELS, names_of, random_case

from textassay.config.schema import EvaluationSection
from textassay.evaluation.differences import differences, mcnemar, shifts

CASES = st.tuples(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 6))


def test_mcnemar_by_hand() -> None:
    """1 row only A has right, 8 only B: 2 * (C(9,0) + C(9,1)) / 2^9 = 20 / 512."""
    a = np.array([True] * 5 + [True] + [False] * 8 + [False] * 3)
    b = np.array([True] * 5 + [False] + [True] * 8 + [False] * 3)
    found = mcnemar(a, b)
    assert (found.both, found.only_a, found.only_b, found.neither) == (5, 1, 8, 3)
    assert found.p == pytest.approx(20 / 512)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_binomial_test(only_a: int, only_b: int) -> None:
    a = np.array([True] * only_a + [False] * only_b + [True])
    b = np.array([False] * only_a + [True] * only_b + [True])
    n, k = only_a + only_b, min(only_a, only_b)
    by_hand = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
    assert mcnemar(a, b).p == pytest.approx(by_hand)
    assert mcnemar(a, b).p == mcnemar(b, a).p
    if n:
        assert mcnemar(a, b).p == pytest.approx(scipy.stats.binomtest(only_a, n).pvalue)


@given(CASES)
def test_a_system_does_not_differ_from_itself(case: tuple[int, int, int]) -> None:
    truth, ours, _ = random_case(*case)
    found = differences(truth, ours, ours, names_of(case[2]), FEW)
    for gain in [*found.gain.values(), *(one.f1_gain for one in found.classes)]:
        assert gain.value == 0 and gain.low <= 0 <= gain.high
    assert all(gain.direction == 0 and gain.p == 1 for gain in found.gain.values())
    assert found.mcnemar.p == 1
    assert found.shifts == []


@given(CASES)
def test_shifts_count_every_changed_row_once(case: tuple[int, int, int]) -> None:
    truth, ours, theirs = random_case(*case)
    found = shifts(truth, ours, theirs, names_of(case[2]))
    test = mcnemar(ours == truth, theirs == truth)
    assert sum(one.rows for one in found) == (ours != theirs).sum()
    assert sum(one.became_right for one in found) == test.only_a
    assert sum(one.became_wrong for one in found) == test.only_b
    for one in found:
        assert one.rows == one.became_right + one.became_wrong + one.stayed_wrong
        assert one.before != one.after
    assert [one.rows for one in found] == sorted((one.rows for one in found), reverse=True)


def test_shifts_by_hand() -> None:
    truth, theirs, ours = (np.array(ids) for ids in ([0, 1, 2, 1, 0], [0, 0, 0, 1, 0],
                                                     [1, 1, 1, 1, 0]))  # fmt: skip
    (only,) = shifts(truth, ours, theirs, LABELS)
    assert (only.before, only.after) == ("bad", "fine")
    assert (only.rows, only.became_right, only.became_wrong, only.stayed_wrong) == (3, 1, 1, 1)


@given(CASES)
def test_changes_by_label_equal_scikit_learn(case: tuple[int, int, int]) -> None:
    truth, ours, theirs = random_case(*case)
    ids, names = range(case[2]), names_of(case[2])
    classes = differences(truth, ours, theirs, names, FEW).classes
    for name, side in (("f1", reference.f1_score), ("recall", reference.recall_score)):
        a, b = (side(truth, predicted, labels=ids, average=None, zero_division=0)
                for predicted in (ours, theirs))  # fmt: skip
        assert [getattr(one, name)[0] for one in classes] == pytest.approx(list(a))
        assert [getattr(one, f"{name}_gain").value for one in classes] == pytest.approx(list(a - b))
    assert sum(one.rows for one in classes) == len(truth)


def test_the_interval_of_a_label_is_that_of_its_resampled_figures() -> None:
    """For the recall of one label of two with the truth known, a bootstrap by another way."""
    truth, ours, theirs = random_case(7, 300, 2)
    many = EvaluationSection(bootstrap_samples=4000)
    found = differences(truth, ours, theirs, names_of(2), many).classes[0].recall_gain
    own = truth == 0
    change = (ours[own] == 0).astype(float) - (theirs[own] == 0)
    error = 1.96 * change.std() / math.sqrt(own.sum())
    assert found.value == pytest.approx(change.mean())
    assert found.low == pytest.approx(change.mean() - error, abs=0.02)
    assert found.high == pytest.approx(change.mean() + error, abs=0.02)


def test_gains_change_their_sign_with_the_sides() -> None:
    truth, ours, theirs = random_case(3, 80, 3)
    there = differences(truth, ours, theirs, LABELS, FEW)
    back = differences(truth, theirs, ours, LABELS, FEW)
    for name, gain in there.gain.items():
        assert back.gain[name].value == -gain.value
        assert back.gain[name].low == pytest.approx(-gain.high)
    assert (back.mcnemar.only_a, back.mcnemar.p) == (there.mcnemar.only_b, there.mcnemar.p)
