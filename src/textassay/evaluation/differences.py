"""What sets the predictions of two classifiers on the same rows apart, and whether it is chance.

Gains are A minus B; shifts lead from B's label to A's. Label ids are arrays of shape [rows].
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from textassay.config.schema import EvaluationSection
from textassay.evaluation.bootstrap import Counts, LabelCells
from textassay.evaluation.gains import Gain, mcnemar_p, paired_difference
from textassay.evaluation.intervals import difference_interval, spread_of
from textassay.evaluation.metrics import Score, per_class


@dataclass(frozen=True)
class McNemar:
    """How many rows both, one or none of the two has right, and what chance would say to it."""

    both: int
    only_a: int
    only_b: int
    neither: int
    p: float


@dataclass(frozen=True)
class Shift:
    """Rows that B gives the label `before` and A the label `after`."""

    before: str
    after: str
    rows: int
    became_right: int
    became_wrong: int
    stayed_wrong: int


@dataclass(frozen=True)
class ClassChange:
    """F1 and recall of both on one label with `rows` rows, and the gains with their intervals."""

    label: str
    rows: int
    f1: tuple[float, float]
    recall: tuple[float, float]
    f1_gain: Score
    recall_gain: Score

    def to_json(self) -> dict[str, Any]:
        """The same, with the two sides by their letters."""
        sides = {"f1": dict(zip("ab", self.f1, strict=True)),
                 "recall": dict(zip("ab", self.recall, strict=True))}  # fmt: skip
        return {**asdict(self), **sides}


@dataclass(frozen=True)
class Differences:
    """All that sets the predictions of A apart from those of B."""

    gain: dict[str, Gain]
    mcnemar: McNemar
    shifts: list[Shift]
    classes: list[ClassChange]


def differences(
    truth: np.ndarray,
    ours: np.ndarray,
    theirs: np.ndarray,
    names: Sequence[str],
    settings: EvaluationSection,
) -> Differences:
    """What sets the label ids `ours` (A's) apart from `theirs` (B's)."""
    level, resamples = settings.confidence, settings.bootstrap_samples
    return Differences(
        paired_difference(truth, ours, theirs, len(names), level, resamples),
        mcnemar(ours == truth, theirs == truth),
        shifts(truth, ours, theirs, names),
        class_changes(truth, ours, theirs, names, settings),
    )


def mcnemar(a_is_right: np.ndarray, b_is_right: np.ndarray) -> McNemar:
    """McNemar's exact test on two boolean arrays of shape [rows]."""
    only_a = int(np.sum(a_is_right & ~b_is_right))
    only_b = int(np.sum(~a_is_right & b_is_right))
    both = int(np.sum(a_is_right & b_is_right))
    neither = len(a_is_right) - both - only_a - only_b
    return McNemar(both, only_a, only_b, neither, mcnemar_p(only_a, only_b))


def shifts(
    truth: np.ndarray, ours: np.ndarray, theirs: np.ndarray, names: Sequence[str]
) -> list[Shift]:
    """Every change of label from `theirs` to `ours` that occurs, the most frequent first."""
    pairs = theirs * len(names) + ours
    found = []
    for pair in np.unique(pairs[ours != theirs]):
        before, after = divmod(int(pair), len(names))
        true = truth[pairs == pair]
        right, wrong = int(np.sum(true == after)), int(np.sum(true == before))
        rest = len(true) - right - wrong
        found.append(Shift(names[before], names[after], len(true), right, wrong, rest))
    return sorted(found, key=lambda shift: -shift.rows)


def class_changes(
    truth: np.ndarray,
    ours: np.ndarray,
    theirs: np.ndarray,
    names: Sequence[str],
    settings: EvaluationSection,
) -> list[ClassChange]:
    """F1 and recall of every label on both sides, with paired intervals of the gains."""
    tables = (per_class(truth, ours, names), per_class(truth, theirs, names))
    low, high = _bounds(truth, ours, theirs, len(names), settings)
    return [
        ClassChange(
            a["label"], a["rows"], (a["f1"], b["f1"]), (a["recall"], b["recall"]),
            Score(a["f1"] - b["f1"], float(low[0, index]), float(high[0, index])),
            Score(a["recall"] - b["recall"], float(low[1, index]), float(high[1, index])),
        )
        for index, (a, b) in enumerate(zip(*tables, strict=True))
    ]  # fmt: skip


def _bounds(
    truth: np.ndarray,
    ours: np.ndarray,
    theirs: np.ndarray,
    labels: int,
    settings: EvaluationSection,
) -> tuple[np.ndarray, np.ndarray]:
    """Low and high of the gains in F1 and recall, each of shape [2, labels]."""
    cells = LabelCells.of(truth, [ours, theirs], labels)
    value = _gains(cells.counts(cells.rows[None]))[0]
    spread = spread_of(cells, _gains, settings.bootstrap_samples)
    low, high = difference_interval(value, spread, settings.confidence)
    return low.reshape(2, labels), high.reshape(2, labels)


def _gains(counts: Sequence[Counts]) -> np.ndarray:
    """[tables, F1 of every label and then recall of every label]: the first minus the second."""
    first, second = map(_f1_and_recall, counts)
    return first - second


def _f1_and_recall(counts: Counts) -> np.ndarray:
    total = counts.true + counts.predicted
    f1 = np.divide(2 * counts.hits, total, np.zeros_like(total), where=total > 0)
    recall = np.divide(counts.hits, counts.true, np.zeros_like(total), where=counts.true > 0)
    return np.concatenate([f1, recall], axis=1)
