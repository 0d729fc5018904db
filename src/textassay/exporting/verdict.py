"""Whether INT8 may be shipped: what it loses, judged on rows that chose nothing."""

from dataclasses import dataclass

import numpy as np

from textassay.errors import GateError
from textassay.evaluation.gains import paired_difference
from textassay.evaluation.metrics import Score

# In macro-F1, of 1.
LOSS_ALLOWED = 0.005
FEWEST_ROWS = 800
# The loss is below its bound with 95% confidence: the lower end of a two-sided interval of 90%.
TWO_SIDED = 0.90


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
            f"than {-100 * self.worst:+.2f} ({self.other_labels} of {self.rows:,} labels change)"
        )


def judge(truth: np.ndarray, before: np.ndarray, after: np.ndarray, labels: int) -> Verdict:
    """Judge label ids `after` quantising against those `before`, all of shape [rows]."""
    difference: Score = paired_difference(truth, after, before, labels, TWO_SIDED)["macro_f1"]
    loss, worst = -(difference.value or 0.0), -(difference.low or 0.0)
    best = -(difference.high or 0.0)
    state = "proven" if worst <= LOSS_ALLOWED else "refused"
    if len(truth) < FEWEST_ROWS and best <= LOSS_ALLOWED:
        state = "unproven"
    return Verdict(state, len(truth), loss, worst, int((before != after).sum()))


def refuse_few(rows: int, accept_unproven: bool) -> None:
    """GateError where the verdict can only be unproven, and that was not accepted."""
    if rows < FEWEST_ROWS and not accept_unproven:
        raise GateError(
            f"INT8 would be judged on {rows:,} labelled rows, and fewer than {FEWEST_ROWS} prove "
            "nothing. Name more with --data_path, or say --accept_unproven to ship it though "
            "unproven. Nothing was written."
        )


def refuse(verdict: Verdict) -> None:
    """GateError where the verdict is that it loses too much."""
    if verdict.state == "refused":
        raise GateError(
            f"INT8 is {verdict}; at most {100 * LOSS_ALLOWED} points are allowed. Nothing was "
            "written; ship the ONNX file in floating point."
        )
