"""Temperature scaling: one number that makes a classifier's probabilities mean what they say.

Logits are divided by a temperature T before the softmax (Guo et al. 2017, section 4.2). No label
changes. T minimises the log loss on rows that the weights were not trained on.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from textassay.console import counted
from textassay.evaluation.evaluate import Evaluation
from textassay.models.probabilities import softmax

# With fewer rows the temperature is as often wrong by so much that nothing is won
# (docs/decisions/0009-calibration.md has the figures).
FEWEST_ROWS = 50
COLDEST, HOTTEST = 0.05, 20.0
# What stands in an artifact's config.json; a change of the fifth figure changes no probability.
DECIMALS = 4


@dataclass(frozen=True)
class Calibration:
    """The temperature and the rows that it was fitted on, or why there is none.

    `note` says what kept the rows from deciding alone; empty where they did.
    """

    temperature: float | None
    rows: int
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """What `eval_results.json` keeps of it."""
        return {**asdict(self), "fitted_on": "validation"}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Calibration":
        """The same from what `to_json` gave; other keys are left out."""
        return cls(content["temperature"], content["rows"], content["note"])

    def sentence(self) -> str:
        """`temperature 1.83, fitted on 215 validation rows`, or `no, 30 rows are too few …`"""
        if self.temperature is None:
            return f"no, {self.note}"
        fitted = f"temperature {self.temperature:.4g}, fitted on {self.rows:,} validation rows"
        return f"{fitted} ({self.note})" if self.note else fitted


def calibrate(raw: Evaluation) -> tuple[Evaluation, Calibration]:
    """Fit on an evaluation of the validation rows at temperature 1, and see what it does there.

    The same evaluation comes back where the settings want no calibration, or the rows allow none.
    """
    if not raw.settings.calibrate:
        return raw, Calibration(None, len(raw.truth), "evaluation.calibrate is false")
    found = fit_temperature(raw.truth, raw.logits)
    if found.temperature is None:
        return raw, found
    return raw.at_temperature(found.temperature), found


def fit_temperature(truth: np.ndarray, logits: np.ndarray) -> Calibration:
    """Fit T on label ids of shape [rows] and raw logits of shape [rows, labels].

    The log loss is convex in 1 / T, so T is where its derivative is 0, from 0.05 to 20.
    Where every label is right the loss only falls as T goes to 0: then T goes as low as the rows
    allow, to a mean confidence of (n + 1) / (n + 2) (Laplace's rule of succession), never above 1.
    """
    rows = len(truth)
    reason = _why_not(truth, logits)
    if reason:
        return Calibration(None, rows, reason)
    logits = logits.astype(np.float64)
    if (logits.argmax(1) == truth).all():
        temperature = _as_sure_as_allowed(logits)
        return Calibration(temperature, rows, f"all {rows:,} rows are right, so they say little of "
                           "how often it is wrong")  # fmt: skip
    temperature = _root(lambda inverse: _slope(truth, logits, inverse), 1 / HOTTEST, 1 / COLDEST)
    at_the_end = {COLDEST: "lowest", HOTTEST: "highest"}.get(temperature)
    note = f"{temperature:g} is the {at_the_end} that is tried" if at_the_end else ""
    return Calibration(temperature, rows, note)


def _why_not(truth: np.ndarray, logits: np.ndarray) -> str:
    """Why nothing can be fitted; empty where it can."""
    if len(truth) < FEWEST_ROWS:
        verb = "is" if len(truth) == 1 else "are"
        return f"{counted(len(truth), 'row')} {verb} too few, {FEWEST_ROWS} are needed"
    if not np.isfinite(logits).all():
        return "some logits are no finite numbers"
    if (truth == truth[0]).all():
        return f"all {len(truth):,} rows have the same label"
    if (logits == logits[:, :1]).all():
        return "every label gets the same logit"
    return ""


def _slope(truth: np.ndarray, logits: np.ndarray, inverse: float) -> float:
    """The derivative of the mean log loss by 1 / T: expected logit minus that of the true label."""
    probabilities = softmax(logits, 1 / inverse)
    expected = (probabilities * logits).sum(1)
    return float((expected - logits[np.arange(len(truth)), truth]).mean())


def _as_sure_as_allowed(logits: np.ndarray) -> float:
    allowed = (len(logits) + 1) / (len(logits) + 2)
    return _root(lambda inverse: softmax(logits, 1 / inverse).max(1).mean() - allowed,
                 1.0, 1 / COLDEST)  # fmt: skip


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """The temperature whose inverse is the root of `rising`, or the end that is nearest to one."""
    from scipy.optimize import brentq

    if rising(low) >= 0:
        found = low
    elif rising(high) <= 0:
        found = high
    else:
        found = float(brentq(rising, low, high))
    return round(1 / found, DECIMALS)
