"""What sets the predictions of two classifiers on the same rows apart, and whether it is chance.

Gains are A minus B; shifts lead from B's label to A's. Label ids are arrays of shape [rows].
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from textassay.config.schema import EvaluationSection
from textassay.evaluation.bootstrap import Counts, PairedResamples, tails
from textassay.evaluation.metrics import Score, paired_difference, per_class


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

    gain: dict[str, Score]
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
    """McNemar's exact test on two boolean arrays of shape [rows].

    Only the n rows that exactly one of the two has right tell them apart. Were A and B equally
    accurate, A would have each of them with probability 1/2, so with k the smaller of both counts
    p = min(1, 2 * sum over i <= k of C(n, i) / 2^n): the two-sided binomial test of McNemar 1947
    in its exact form (Agresti 2002, section 10.1). p is 1 where n is 0.
    """
    from scipy.stats import binomtest

    only_a = int(np.sum(a_is_right & ~b_is_right))
    only_b = int(np.sum(~a_is_right & b_is_right))
    both = int(np.sum(a_is_right & b_is_right))
    discordant = only_a + only_b
    p = float(binomtest(min(only_a, only_b), discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(both, only_a, only_b, len(a_is_right) - both - discordant, p)


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
    """F1 and recall of every label on both sides, with paired bootstrap intervals of the gains."""
    resamples = PairedResamples(truth, [ours, theirs], len(names), settings.bootstrap_samples)
    parts = [_f1_and_recall(first) - _f1_and_recall(second) for first, second in resamples.counts()]
    spread = np.concatenate(parts, axis=1)
    low, high = np.percentile(spread, tails(settings.confidence), axis=1)
    tables = (per_class(truth, ours, names), per_class(truth, theirs, names))
    return [
        ClassChange(
            a["label"], a["rows"], (a["f1"], b["f1"]), (a["recall"], b["recall"]),
            Score(a["f1"] - b["f1"], float(low[0, index]), float(high[0, index])),
            Score(a["recall"] - b["recall"], float(low[1, index]), float(high[1, index])),
        )
        for index, (a, b) in enumerate(zip(*tables, strict=True))
    ]  # fmt: skip


def _f1_and_recall(counts: Counts) -> np.ndarray:
    """[F1 and recall, tables, labels]."""
    total = counts.true + counts.predicted
    return np.stack(
        [2 * counts.hits / np.maximum(total, 1), counts.hits / np.maximum(counts.true, 1)]
    )
