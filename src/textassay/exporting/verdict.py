"""Whether INT8 may be shipped: what it loses, judged on rows that chose nothing."""

from dataclasses import dataclass

import numpy as np

from textassay.console import counted
from textassay.errors import GateError
from textassay.exporting.loss_bound import Changes

# In macro-F1, of 1.
LOSS_ALLOWED = 0.005
FEWEST_ROWS = 800
# A loss is ruled out where so small a loss as the observed one has at most this probability under
# it: the bound is above the true loss with 95% confidence.
RISK = 0.05
PROVEN, UNPROVEN, REFUSED = "proven", "unproven", "refused"


@dataclass(frozen=True)
class Verdict:
    """The loss of macro-F1 with its 95% bound, and what follows: proven, unproven or refused."""

    state: str
    rows: int
    loss: float
    worst: float
    other_labels: int

    def __str__(self) -> str:
        return (
            f"{self.state}: macro-F1 {-100 * self.loss:+.2f} points, with 95% confidence not worse "
            f"than {-100 * self.worst:+.2f} ({self.other_labels} of {counted(self.rows, 'label')} "
            "change)"
        )


def judge(truth: np.ndarray, before: np.ndarray, after: np.ndarray, labels: int) -> Verdict:
    """Judge label ids `after` quantising against those `before`, all of shape [rows].

    It is proven that the loss is allowed where its 95% bound is and there are rows enough; refused
    where the loss itself is not, unless so few rows may show it by chance; unproven else.
    """
    changes = Changes.of(truth, before, after, labels)
    other = int((before != after).sum())
    worst = changes.worst(RISK)
    enough = len(truth) >= FEWEST_ROWS
    if enough and worst <= LOSS_ALLOWED:
        state = PROVEN
    elif changes.loss > LOSS_ALLOWED and (enough or changes.best(RISK) > LOSS_ALLOWED):
        state = REFUSED
    else:
        state = UNPROVEN
    return Verdict(state, len(truth), changes.loss, worst, other)


def refuse_few(rows: int, accept_unproven: bool) -> None:
    """GateError where the verdict can only be unproven, and that was not accepted."""
    if rows < FEWEST_ROWS and not accept_unproven:
        raise GateError(
            f"INT8 would be judged on {rows:,} labelled rows, and fewer than {FEWEST_ROWS} prove "
            "nothing. Name more with --data_path, or say --accept_unproven to ship it though "
            "unproven. Nothing was written."
        )


def refuse(verdict: Verdict, accept_unproven: bool) -> None:
    """GateError where it loses too much, or may lose too much and that was not accepted."""
    if verdict.state == REFUSED:
        raise GateError(
            f"INT8 is {verdict}; at most {100 * LOSS_ALLOWED} points are allowed. Nothing was "
            "written; ship the ONNX file in floating point."
        )
    if verdict.state == UNPROVEN and not accept_unproven:
        raise GateError(
            f"INT8 is {verdict}; at most {100 * LOSS_ALLOWED} points are allowed. Nothing was "
            "written. Name more labelled rows with --data_path, above all of rare labels, or say "
            "--accept_unproven to ship it though unproven."
        )
