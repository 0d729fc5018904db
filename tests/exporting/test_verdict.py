"""INT8 ships if it is proven to lose little, and only with a word where too few rows say so."""

import numpy as np
import pytest

from textassay.errors import GateError
from textassay.exporting.verdict import judge, refuse, refuse_few


def labels(rows: int, flipped: int, right: bool = False) -> tuple[np.ndarray, ...]:
    """Truth, labels before, 90% of them right, and after, `flipped` of them spoilt or mended."""
    truth = np.arange(rows) % 2
    before = np.where(np.arange(rows) % 10 == 0, 1 - truth, truth)
    after = before.copy()
    candidates = np.flatnonzero((before == truth) != right)[:flipped]
    after[candidates] = 1 - after[candidates]
    return truth, before, after


def test_equal_labels_on_enough_rows_prove_it() -> None:
    """Where no label of 800 changed, 3 of 800 may: under a rate of that, none changes in 5%."""
    verdict = judge(*labels(800, 0), 2)
    assert verdict.state == "proven"
    assert (verdict.loss, verdict.other_labels) == (0, 0)
    assert verdict.worst == pytest.approx(-np.log(0.05) / 800, rel=0.05)
    refuse(verdict, accept_unproven=False)


def test_few_rows_prove_nothing_even_if_all_is_equal() -> None:
    assert judge(*labels(799, 0), 2).state == "unproven"
    with pytest.raises(GateError, match="799 labelled rows, and fewer than 800 prove nothing"):
        refuse_few(799, accept_unproven=False)
    refuse_few(799, accept_unproven=True)
    refuse_few(800, accept_unproven=False)


def test_a_loss_of_a_point_is_refused() -> None:
    verdict = judge(*labels(2000, 20), 2)
    assert verdict.state == "refused"
    assert verdict.loss == pytest.approx(0.01, abs=1e-3)
    assert verdict.worst > verdict.loss
    with pytest.raises(GateError, match=r"-1\.0\d points"):
        refuse(verdict, accept_unproven=True)


def test_a_small_loss_that_could_be_a_large_one_is_not_shipped_unasked() -> None:
    """0.4 points on 1,000 rows: the interval reaches beyond 0.5."""
    verdict = judge(*labels(1000, 4), 2)
    assert verdict.loss < 0.005 < verdict.worst
    assert verdict.state == "unproven"
    with pytest.raises(GateError, match=r"unproven: .* --accept_unproven"):
        refuse(verdict, accept_unproven=False)
    refuse(verdict, accept_unproven=True)


def test_what_rare_labels_may_lose_is_not_ruled_out() -> None:
    """No label of 2,000 changed; but 20 rows of a label are few, and each is dear."""
    truth = np.repeat([0, 1], [1980, 20])
    verdict = judge(truth, truth, truth, 2)
    assert (verdict.state, verdict.other_labels) == ("unproven", 0)
    assert verdict.worst > 0.02


def test_on_few_rows_only_what_is_clearly_bad_is_refused() -> None:
    assert judge(*labels(200, 2), 2).state == "unproven"
    assert judge(*labels(200, 40), 2).state == "refused"


def test_a_gain_is_no_loss() -> None:
    verdict = judge(*labels(2000, 20, right=True), 2)
    assert verdict.state == "proven"
    assert verdict.loss < 0
