"""The two sides of a comparison, and the rows on which they are compared."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import transformers

from textassay.artifacts.hallmark import check_files, check_loaded, read_hallmark
from textassay.artifacts.kinds import Loaded, load_artifact
from textassay.config.runs import CONFIG, artifact_in
from textassay.config.schema import DataSection, ModelSection
from textassay.console import counted, warn
from textassay.data.catalog import read_entry
from textassay.data.columns import MissingColumnError
from textassay.data.labels import LabelMap
from textassay.data.load import Dataset, load_dataset, load_rows
from textassay.data.split import overlap
from textassay.data.trained_on import TrainedOn, trained_on
from textassay.errors import DataError, GateError, UsageError
from textassay.evaluation.stored_run import (
    StoredRun,
    read_rows_of,
    refuse_changed_data,
    run_around,
    training_rows,
)
from textassay.models.classifier import BuiltClassifier, build_classifier, load_config
from textassay.models.heads import LABEL_SCORING
from textassay.models.source import SETTINGS_KEY, Source, find_model

UNTUNED_SEED = 0
RANDOM_HEAD = f"untuned base (random head, seed {UNTUNED_SEED})"
WITHOUT_HEAD = "untuned base (no head, it scores the labels)"
OWN_HEAD = "untuned base (its own head)"
WARNING = "its figures say nothing about the base model"


@dataclass(frozen=True)
class Contender:
    """An artifact, or an untuned base; `name` is what it is called in tables."""

    name: str
    folder: Path
    loaded: Loaded
    hallmark: dict[str, Any] | None
    run: StoredRun | None
    is_untuned: bool = False
    has_random_head: bool = False

    @property
    def title(self) -> str:
        """The name, and for a random head what its figures are worth."""
        return f"{self.name}: {WARNING}" if self.has_random_head else self.name

    @property
    def fingerprint(self) -> str | None:
        """The hash of the data that it was trained on, where its hallmark says so."""
        return (self.hallmark or {}).get("data", {}).get("fingerprint")

    def to_json(self) -> dict[str, Any]:
        """Where it lies, what it is, and what its hallmark says of it."""
        base = self.loaded.base
        return {
            "name": self.title,
            "path": None if self.is_untuned else str(self.folder),
            "kind": self.loaded.kind,
            "base": base.name if base else (self.hallmark or {}).get("base", {}).get("name"),
            "untuned": self.is_untuned,
            "has_hallmark": self.hallmark is not None,
            "trained_on": (self.hallmark or {}).get("data"),
        }


@dataclass(frozen=True)
class Selection:
    """The rows of a comparison: `split` is None where a file is used whole, without train rows."""

    name: str
    split: str | None
    table: pa.Table
    train: pa.Table | None
    fingerprint: str | None

    @property
    def title(self) -> str:
        """`sentiment5_en, test`"""
        return f"{self.name}, {self.split or 'the whole file'}"


def load_contender(where: Path, base: str | None) -> Contender:
    """The artifact in `where`, or of the run in `where`, held to its hallmark if it has one.

    `base` says where the base of an adapter lies. Raises GateError where the hallmark does not
    hold, UsageError where there is no artifact.
    """
    folder = artifact_in(where)
    hallmark = read_hallmark(folder)
    if hallmark is not None:
        check_files(folder, hallmark)
    loaded = load_artifact(folder, base)
    if hallmark is not None:
        check_loaded(loaded, hallmark, folder)
    run = run_around(folder)
    named = folder.parent if run and folder.name == "model" else folder
    name = str(named) if named.name else str(named.resolve())
    return Contender(name, folder, loaded, hallmark, run)


def untuned_base_of(tuned: Contender, base: str | None) -> Contender:
    """The base of an artifact with its input settings, and a random head where it has none.

    A base that is a classifier of as many labels keeps its head; where it calls them otherwise,
    its first label is taken for the artifact's first, and so on, and the name says so.

    Raises UsageError where the base is not known, GateError where it is not the stamped one.
    """
    source = _base_of(tuned, base)
    stamped = (tuned.hallmark or {}).get("base", {}).get("weights")
    if stamped and source.weights_hash() != stamped:
        raise GateError(
            f"{tuned.folder}: was not trained on {source.name} ({source.origin}), whose weights "
            "have another hash than the stamped base; name the right one with --base_model_path."
        )
    own = tuned.loaded
    settings = getattr(own.model.config, SETTINGS_KEY, None) or {}
    quantization = settings.get("quantization") or {}
    section = ModelSection(
        model_name_or_path=source.name,
        max_seq_length=own.max_length,
        head=settings.get("head", "linear"),
        **{name: quantization[name] for name in ModelSection.model_fields if name in quantization},
    )
    transformers.set_seed(UNTUNED_SEED)
    built = build_classifier(source, own.labels, section, own.prompt)
    name, labels = _what_it_is(source, built, own.labels)
    loaded = replace(
        own, kind="untuned base", model=built.model.eval(), tokenizer=built.tokenizer,
        labels=labels, base=source, temperature=1.0,
    )  # fmt: skip
    return Contender(name, source.path, loaded, None, None, True, bool(built.unfilled))


def _what_it_is(source: Source, built: BuiltClassifier, labels: LabelMap) -> tuple[str, LabelMap]:
    """What an untuned base is called, and the labels in the order of its logits."""
    if built.unfilled:
        return RANDOM_HEAD, labels
    if getattr(built.model.config, SETTINGS_KEY)["head"] == LABEL_SCORING:
        return WITHOUT_HEAD, labels
    names = load_config(source.path).id2label
    own = LabelMap(tuple(names[index] for index in range(len(names))))
    if set(own.names) == set(labels.names):
        return OWN_HEAD, own
    return f"{OWN_HEAD[:-1]}, which calls the labels {', '.join(own.names)})", labels


def select_rows(tuned: Contender, data: DataSection | None, split: str | None) -> Selection:
    """The rows that `data` names, else a split (test) of what `tuned` was trained on.

    A single file is used whole. Where a run was told its columns, they are taken from other rows
    that have them, too, unless `data` names its own. Raises UsageError where nothing says which
    rows, DataError where they cannot be used or have labels that the artifact does not know.
    """
    if data is None and tuned.run is None:
        raise UsageError(
            f"{tuned.folder}: stands in no run ({CONFIG} is not beside it), so its test rows are "
            "not known; name a run's directory, or rows with --data_path or --data_name."
        )
    columns = _columns_of_run(data, tuned.run)
    if data is not None and columns:
        try:
            return select_rows(tuned, data.model_copy(update=columns), split)
        except MissingColumnError:
            pass
    section = as_trained(data, tuned.run)
    model = trained_on(tuned.folder) if data else None
    if data is not None and data.path and os.path.isfile(data.path):  # noqa: PTH113 (long names)
        if split:
            raise UsageError(f"--split: {data.path} is a file, which is used whole; leave it out.")
        selection = _whole_file(Path(data.path), section, model)
    else:
        dataset, split = _read_set(data, section, tuned, model), split or "test"
        for note in dataset.notes:
            warn(note)
        selection = Selection(
            dataset.name,
            split,
            dataset.splits[split],
            dataset.splits["train"],
            dataset.whole_fingerprint(),
        )
    _refuse_strange_labels(selection.table, tuned)
    return selection


def _read_set(
    data: DataSection | None, section: DataSection, tuned: Contender, model: TrainedOn | None
) -> Dataset:
    """Return the set that `data` names, else that of the run, which must be as it was."""
    if data is not None or tuned.run is None:
        return load_dataset(section, model)
    dataset = read_rows_of(tuned.run, tuned.fingerprint)
    if tuned.fingerprint:
        refuse_changed_data(tuned.run, tuned.fingerprint, dataset)
    return dataset


def _columns_of_run(data: DataSection | None, run: StoredRun | None) -> dict[str, str]:
    """The columns that the run was told and `data` leaves open."""
    if data is None or run is None:
        return {}
    told = {"text_column": run.data.text_column, "label_column": run.data.label_column}
    return {key: name for key, name in told.items() if name and getattr(data, key) is None}


def as_trained(data: DataSection | None, run: StoredRun | None) -> DataSection:
    """The rows that `data` names, their labels read as those of the run were, else the run's."""
    if data is None or run is None:
        return data or (run.data if run else DataSection())
    told = {"label_type": run.data.label_type, "normalize_labels": run.data.normalize_labels}
    return data.model_copy(update={k: v for k, v in told.items() if k not in data.model_fields_set})


def training_notes(letter: str, contender: Contender, selection: Selection) -> list[str]:
    """What must be said of a contender before its figures are believed, as sentences."""
    if contender.is_untuned:
        base = contender.loaded.base
        return [f"{letter} is {base.name if base else ''} as an {contender.title}."]
    notes = []
    if contender.hallmark is None:
        notes.append(f"{letter} carries no hallmark: nothing proves what it is.")
    if selection.fingerprint and contender.fingerprint == selection.fingerprint:
        return notes
    train = training_rows(contender.run, contender.fingerprint)
    rows = len(selection.table)
    if train is None:
        notes.append(
            f"The training rows of {letter} are not at hand: the {counted(rows, 'row')} compared "
            "here may "
            "have been among them."
        )
        return notes
    seen = overlap(selection.table, train)
    flatter = f", so they flatter {letter}" if seen else ""
    notes.append(
        f"{seen:,} of the {counted(rows, 'row')} compared here have a text that stands in the "
        "training rows "
        f"of {letter}{flatter}."
    )
    return notes


def _find_stamped(name: str, revision: str | None) -> Source:
    """A base that a hallmark names; of another revision if need be, since its hash is looked at."""
    try:
        return find_model(name, revision)
    except UsageError:
        if not revision:
            raise
    return find_model(name)


def _base_of(tuned: Contender, base: str | None) -> Source:
    if base:
        return find_model(base)
    if tuned.loaded.base:
        return tuned.loaded.base
    if tuned.run:
        return find_model(tuned.run.model.model_name_or_path, tuned.run.model.revision)
    stamped = (tuned.hallmark or {}).get("base", {})
    if stamped.get("name"):
        return _find_stamped(stamped["name"], stamped.get("revision"))
    raise UsageError(
        f"{tuned.folder}: neither a run nor a hallmark says what its base is; name it with "
        "--base_model_path, or name a second artifact."
    )


def _whole_file(path: Path, data: DataSection, model: TrainedOn | None) -> Selection:
    table, notes = load_rows(path, data, read_entry(data.name) if data.name else None, model)
    for note in notes:
        warn(note)
    return Selection(path.name, None, table, None, None)


def _refuse_strange_labels(table: pa.Table, tuned: Contender) -> None:
    if not len(table):
        raise DataError("no usable row is left to compare on.")
    known = tuned.loaded.labels.label2id
    for number, label in enumerate(table["label"].to_pylist()):
        if label not in known:
            row = table.slice(number, 1).to_pylist()[0]
            raise DataError(
                f"{row['file']}, line {row['line']}: the label {label!r} is none that "
                f"{tuned.name} knows ({', '.join(known)[:200]})."
            )
