"""Two artifacts, or one and its untuned base, on the same rows: which is better, if either is."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from textassay.config.schema import DataSection, EvaluationSection
from textassay.console import counted, say
from textassay.data.labels import LabelMap
from textassay.data.options import section_of_flags
from textassay.errors import UsageError
from textassay.evaluation.contenders import (
    Contender,
    Selection,
    load_contender,
    select_rows,
    training_notes,
    untuned_base_of,
)
from textassay.evaluation.differences import Differences, differences
from textassay.evaluation.evaluate import Baseline, Evaluation, compare_with_baselines, evaluate
from textassay.evaluation.stored_run import refuse_changed_rows
from textassay.models.device import find_device


@dataclass(frozen=True)
class Side:
    """One of the two with what it predicted; a random head is held to no baseline.

    `notes` name the baselines that the training rows cannot fit.
    """

    letter: str
    contender: Contender
    evaluation: Evaluation
    baselines: list[Baseline]
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """What it is, all its figures with intervals, and how far ahead of the baselines."""
        return {
            **self.contender.to_json(),
            "truncated": self.evaluation.truncated,
            "temperature": self.contender.loaded.temperature,
            "scores": {name: asdict(one) for name, one in self.evaluation.scores.items()},
            "baselines": [baseline.to_json() for baseline in self.baselines],
        }


@dataclass(frozen=True)
class Comparison:
    """Two sides, the rows that they were compared on, and everything that was found."""

    a: Side
    b: Side
    selection: Selection
    found: Differences
    notes: list[str]

    @property
    def settings(self) -> EvaluationSection:
        """Level and resamples of the intervals."""
        return self.a.evaluation.settings

    def verdict(self) -> str:
        """One honest sentence on macro-F1."""
        gain, rows = self.found.gain["macro_f1"], len(self.selection.table)
        figures = f"{gain.figures('macro-F1')}, {counted(rows, 'row')}"
        against = "B, its base with a random head" if self.b.contender.has_random_head else "B"
        if not gain.direction:
            return f"No detectable difference between A and {against} ({figures})."
        better = "better" if gain.direction > 0 else "worse"
        return f"A is {better} than {against} ({figures})."

    def accuracy_sentence(self) -> str:
        """The same for accuracy, with McNemar's test."""
        gain, test = self.found.gain["accuracy"], self.found.mcnemar
        return (
            f"Accuracy {gain.value:+.3f}, interval {gain.low:+.3f} to {gain.high:+.3f}; "
            f"{counted(test.only_a, 'row')} that only A has right, {test.only_b:,} that only B has "
            f"(McNemar's exact test: {gain.chance})."
        )

    def to_json(self) -> dict[str, Any]:
        """The content of `comparison.json`."""
        rows = {"data": self.selection.name, "split": self.selection.split,
                "count": len(self.selection.table)}  # fmt: skip
        return {
            "rows": rows,
            "labels": list(self.a.evaluation.labels.names),
            "confidence": self.settings.confidence,
            "bootstrap_samples": self.settings.bootstrap_samples,
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "verdict": self.verdict(),
            "gain": {name: asdict(one) for name, one in self.found.gain.items()},
            "mcnemar": asdict(self.found.mcnemar),
            "per_class": [one.to_json() for one in self.found.classes],
            "shifts": [asdict(one) for one in self.found.shifts],
            "notes": self.notes,
        }


def other_data(
    path: str | None,
    name: str | None,
    text_column: str | None,
    label_column: str | None,
    reading: dict[str, Any] | None = None,
) -> DataSection | None:
    """The rows that flags name; None where they name none. `reading`: how their files are written.

    Raises UsageError for a flag that says something of rows where none are named.
    """
    told = {"text_column": text_column, "label_column": label_column, **(reading or {})}
    told = {flag: value for flag, value in told.items() if value is not None}
    if path or name:
        return section_of_flags(path=path, name=name, **told)
    if told:
        raise UsageError(
            f"--{next(iter(told))}: says something of other rows; say which with --data_path."
        )
    return None


def compare_artifacts(
    first: Path,
    second: Path | None,
    data: DataSection | None,
    split: str | None,
    device: str = "auto",
    batch_size: int = 64,
    base: str | None = None,
) -> Comparison:
    """Compare the artifact `first` with `second`, or with its untuned base, on the same rows.

    The rows are those that `data` names, else a split of what `first` was trained on; `base` says
    where the base of an adapter lies. Everything that can refuse comes before the first prediction.
    """
    where = find_device(device)
    a = load_contender(first, base)
    b = load_contender(second, base) if second else untuned_base_of(a, base)
    refuse_other_labels(a, b)
    selection = select_rows(a, data, split)
    if data is None and b.run and b.fingerprint not in (None, selection.fingerprint):
        refuse_changed_rows(b.run, str(b.fingerprint))
    settings = a.run.evaluation if a.run else EvaluationSection()

    def side(letter: str, contender: Contender) -> Side:
        say(f"{letter}          {contender.title}")
        predicted = _predict(contender, selection, settings, batch_size, where)
        return _side(letter, contender, align(predicted, a.loaded.labels), selection)

    ours, theirs = side("A", a), side("B", b)
    found = differences(
        ours.evaluation.truth,
        ours.evaluation.predicted,
        theirs.evaluation.predicted,
        a.loaded.labels.names,
        settings,
    )
    unfitted = dict.fromkeys([*ours.notes, *theirs.notes])
    return Comparison(ours, theirs, selection, found, [*_notes(a, b, selection), *unfitted])


def refuse_other_labels(a: Contender, b: Contender) -> None:
    """UsageError unless both know the same labels, in whatever order."""
    ours, theirs = set(a.loaded.labels.names), set(b.loaded.labels.names)
    if ours == theirs:
        return
    parts = [f"only {side.name} has {', '.join(map(repr, sorted(own)))}"
             for side, own in ((a, ours - theirs), (b, theirs - ours)) if own]  # fmt: skip
    raise UsageError(f"two artifacts with different labels cannot be compared: {'; '.join(parts)}.")


def align(evaluation: Evaluation, labels: LabelMap) -> Evaluation:
    """The same evaluation with its labels in the order of `labels`, which has the same names."""
    if evaluation.labels == labels:
        return evaluation
    own = evaluation.labels.label2id
    truth = np.array(labels.ids(evaluation.table["label"].to_pylist()))
    logits = evaluation.logits[:, [own[name] for name in labels.names]]
    return replace(evaluation, labels=labels, truth=truth, logits=logits)


def _predict(
    contender: Contender,
    selection: Selection,
    settings: EvaluationSection,
    batch_size: int,
    device: torch.device,
) -> Evaluation:
    """What a contender does on the rows; afterwards it leaves the device to the other one."""
    split = selection.split or "rows"
    found = evaluate(contender.loaded, split, selection.table, settings, batch_size, device)
    contender.loaded.leave_device()
    return found


def _side(letter: str, contender: Contender, found: Evaluation, selection: Selection) -> Side:
    if selection.train is None or contender.has_random_head:
        return Side(letter, contender, found, [])
    return Side(letter, contender, found, *compare_with_baselines(found, selection.train))


def _notes(a: Contender, b: Contender, selection: Selection) -> list[str]:
    notes = []
    if a.fingerprint and b.fingerprint and a.fingerprint != b.fingerprint:
        notes.append(
            "A and B were trained on different data, or on different splits of it: rows of one's "
            "test split may have been in the other's training rows."
        )
    notes += training_notes("A", a, selection) + training_notes("B", b, selection)
    if selection.split == "validation":
        notes.append("Validation rows picked the checkpoints, so they flatter whoever had them.")
    if selection.train is None:
        notes.append("No baselines: a single file is used whole, so there are no rows to train on.")
    return notes
