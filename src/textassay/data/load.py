"""From a data section to checked splits: the first half of every run."""

import os
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import pyarrow as pa

from textassay.config.schema import DataSection
from textassay.console import counted
from textassay.data.catalog import Entry, Form, read_entry
from textassay.data.clean import (
    refuse_other_labels,
    refuse_strange_labels,
    settle_bad_rows,
    usable_rows,
)
from textassay.data.columns import Columns, find_columns, note_columns
from textassay.data.hub import read_hub
from textassay.data.label_values import LabelColumn, LabelRules, LabelValues, read_label_values
from textassay.data.labels import LabelMap, refuse_unknown_labels
from textassay.data.layout import find_splits
from textassay.data.options import ReadOptions
from textassay.data.read import BadRow, Rows, read_file, read_files, values
from textassay.data.split import cut, refuse_lonely_labels
from textassay.data.split_checks import (
    SPLITS,
    count_overlaps,
    file_of,
    labels_of,
    note_repeats,
    note_splits,
    refuse_identical,
    sample_splits,
)
from textassay.data.trained_on import TrainedOn
from textassay.data.withheld import leave_out_unlabelled
from textassay.errors import DataError, UsageError
from textassay.files import sha256_text, sha256_texts

LONGEST_HUB_NAME = 96


@dataclass
class Dataset:
    """Three splits as tables of `text`, `label`, `file`, `line`, and what was found on the way."""

    name: str
    splits: dict[str, pa.Table]
    labels: LabelMap
    notes: list[str] = field(default_factory=list)

    def fingerprint(self, split: str) -> str:
        """A hash of the texts and labels of a split, in their order."""
        table = self.splits[split]
        return sha256_texts(chain(values(table["text"]), values(table["label"])))

    def whole_fingerprint(self) -> str:
        """One hash of all splits, as a hallmark holds it."""
        return sha256_text(*(self.fingerprint(split) for split in sorted(self.splits)))


def load_dataset(section: DataSection, model: TrainedOn | None = None) -> Dataset:
    """Read, check and split the data of a job.

    `model` is the one that is to judge them, if there is one. Raises DataError (file, line, reason)
    for data that cannot be used and UsageError for a section that names none.
    """
    entry = read_entry(section.name) if section.name else None
    name = entry.name if entry else _plain_name(section)
    files, form = _read_splits(section, entry)
    notes = [f"{rows.file}: {note}" for split in files.values() for rows in split
             for note in rows.notes]  # fmt: skip
    first_file = files["train"][0].file
    notes += leave_out_unlabelled(files, section, form)
    notes += _note_columns(files["train"][0], section, form, model)
    tables, bad, meant = _clean(files, section, form, entry, model)
    notes += meant.notes
    notes += settle_bad_rows(bad, section.on_bad_rows)
    _refuse_unusable(tables, first_file, meant.settled)
    refuse_identical(tables)
    notes += count_overlaps(tables)
    if section.labels:
        notes += refuse_other_labels(tables, section.labels)
    seed = _split_seed(section, entry)
    notes += _cut_missing_splits(tables, section, seed)
    found = labels_of(tables["train"])
    order = section.labels or (entry.order(found) if entry else None)
    labels = LabelMap.from_labels(found, order)
    for split in ("validation", "test"):
        refuse_unknown_labels(file_of(tables[split], split), labels_of(tables[split]), labels)
    notes += sample_splits(tables, section.max_samples, seed)
    notes += note_splits(tables, labels)
    return Dataset(name, {split: tables[split] for split in SPLITS}, labels, notes)


def load_rows(
    path: Path, section: DataSection, entry: Entry | None = None, model: TrainedOn | None = None
) -> tuple[pa.Table, list[str]]:
    """The usable rows of one file, no splits made, and what was noted: to evaluate on any data."""
    form = entry.local if entry else Form()
    rows = read_file(path, ReadOptions.of(section, form.column_names))
    notes = [f"{rows.file}: {note}" for note in rows.notes]
    notes += _note_columns(rows, section, form, model)
    tables, bad, meant = _clean({"rows": [rows]}, section, form, entry, model)
    notes += meant.notes
    notes += settle_bad_rows(bad, section.on_bad_rows)
    return tables["rows"], notes + note_repeats(path.name, tables["rows"])


def _plain_name(section: DataSection) -> str:
    named = section.path or section.train_file
    return Path(named).stem if named else "data"


def _read_splits(section: DataSection, entry: Entry | None) -> tuple[dict[str, list[Rows]], Form]:
    """{split: files} as they stand, and the form that they are written in."""
    local = entry.local if entry else Form()
    options = ReadOptions.of(section, local.column_names)
    if section.train_file:
        paths = {"train": [Path(section.train_file)]}
        for split, named in (("validation", section.validation_file), ("test", section.test_file)):
            if named:
                paths[split] = [Path(named)]
        return _read_paths(paths, options), local
    if section.validation_file or section.test_file:
        raise UsageError("data: --validation_file and --test_file go with --train_file.")
    where = Path(section.path) if section.path else entry.local_folder() if entry else None
    if where is not None and os.path.exists(where):  # noqa: PTH110 (Path raises for long names)
        return _read_paths(_paths_in(where, local), options), local
    if section.path and (entry or not _may_be_hub_name(section.path)):
        raise DataError(f"{section.path}: there is no such file or directory.")
    if section.path:
        return read_hub(section.path, None), Form()
    if entry and entry.hub and entry.hub.path:
        return read_hub(entry.hub.path, entry.hub.config), entry.hub
    if entry:
        raise DataError(
            f"data.name: {entry.name} is on no hub; name the directory that holds it with "
            f"--data_path, or put it into $TEXTASSAY_DATA_DIR/{entry.name}."
        )
    raise UsageError("no data: name a file, a directory or a hub name with --data_path.")


def _may_be_hub_name(name: str) -> bool:
    return (
        name.count("/") == 1
        and not name.startswith((".", "/", "~"))
        and not Path(name).suffix
        and len(name) <= LONGEST_HUB_NAME
        and not Path(name).parent.exists()
    )


def _paths_in(where: Path, form: Form) -> dict[str, list[Path]]:
    if where.is_file():
        return {"train": [where]}
    if form.files:
        return {split: [where / name for name in names] for split, names in form.files.items()
                if split == "train" or all((where / name).exists() for name in names)}  # fmt: skip
    return find_splits(where)


def _read_paths(paths: dict[str, list[Path]], options: ReadOptions) -> dict[str, list[Rows]]:
    """Read all files of a set together: what has to be guessed is guessed once for all of them."""
    found = iter(read_files([path for of in paths.values() for path in of], options))
    return {split: [next(found) for _ in of] for split, of in paths.items()}


def _clean(
    files: dict[str, list[Rows]],
    section: DataSection,
    form: Form,
    entry: Entry | None,
    model: TrainedOn | None,
) -> tuple[dict[str, pa.Table], list[BadRow], LabelValues]:
    """A table for each split. Takes the rows out of `files`, so that they stand in memory once."""
    model = model or TrainedOn()
    found = [
        (
            split,
            rows,
            find_columns(
                rows,
                section.text_column or form.text or model.text_column_in(rows.columns),
                section.label_column or form.label,
            ),
        )
        for split, of in files.items()
        for rows in of
    ]
    files.clear()
    meanings = entry.values(form) if entry else None
    if meanings is not None:  # a ClassLabel column has names in place of the numbers
        numbered = [pair for _, rows, names in found
                    for pair in enumerate(rows.class_names.get(names.label, ()))]  # fmt: skip
        meanings |= {name: meanings[str(n)] for n, name in numbered if str(n) in meanings}
    else:
        meanings = _numbers_that_are_known(found, model)
    rules = LabelRules(
        label_type=section.label_type,
        normalize=section.normalize_labels,
        known=[*model.labels, *(section.labels or ()), *(entry.labels if entry else ())],
        meanings=meanings,
    )
    meant = read_label_values(
        [LabelColumn.of(rows, names.label) for _, rows, names in found], rules
    )
    cleaned: dict[str, list[pa.Table]] = {}
    bad: list[BadRow] = []
    while found:
        usable = usable_rows(*found[0][1:], meant)
        cleaned.setdefault(found.pop(0)[0], []).append(usable.table)
        bad += usable.bad
    return {split: pa.concat_tables(of) for split, of in cleaned.items()}, bad, meant


def _numbers_that_are_known(
    found: list[tuple[str, Rows, Columns]], model: TrainedOn
) -> dict[str, str] | None:
    """{name: number} of ClassLabel columns, if the model was trained on their numbers alone.

    Earlier versions read the numbers; such a model's labels are 0, 1 and so on.
    """
    numbers = {name: str(n) for _, rows, names in found
               for n, name in enumerate(rows.class_names.get(names.label, ()))}  # fmt: skip
    known = set(model.labels)
    if not known or not numbers or set(numbers) & known or known - set(numbers.values()):
        return None
    return numbers


def _note_columns(
    rows: Rows, section: DataSection, form: Form, model: TrainedOn | None
) -> list[str]:
    """Which columns are the text, where that is not plain."""
    told = section.text_column or form.text or (model or TrainedOn()).text_column_in(rows.columns)
    names = find_columns(rows, told, section.label_column or form.label)
    return [f"{rows.file}: {note}" for note in note_columns(rows, names, told)]


def _refuse_unusable(tables: dict[str, pa.Table], file: str, settled: set[str]) -> None:
    if not len(tables["train"]):
        raise DataError(f"{file}: no usable row is left for training.")
    for table in tables.values():
        refuse_strange_labels(table, settled)
    found = labels_of(tables["train"])
    if len(found) < 2:
        where = file_of(tables["train"], "train")
        raise DataError(
            f"{where}: every row has the label {found.pop()!r}; there is nothing to learn."
        )


def _cut_missing_splits(tables: dict[str, pa.Table], section: DataSection, seed: int) -> list[str]:
    """Cut test, then validation, off train where the set has none."""
    notes = []
    for split, share in (("test", section.test_size), ("validation", section.validation_size)):
        if split in tables:
            continue
        refuse_lonely_labels(tables["train"])
        others = [table for other, table in tables.items() if other != "train"]
        stay, gone = cut(tables["train"], share, seed, others)
        tables[split] = tables["train"].take(gone)
        tables["train"] = tables["train"].take(stay)
        notes.append(
            f"{split}: {counted(len(gone), 'row')} cut off train (stratified, split seed {seed})"
        )
        if not len(gone):
            where = file_of(tables["train"], "train")
            raise DataError(
                f"{where}: has too few rows to cut {split} rows off; add rows or name a {split} "
                "file."
            )
    return notes


def _split_seed(section: DataSection, entry: Entry | None) -> int:
    if section.split_seed is not None:
        return section.split_seed
    return entry.split_seed if entry else 0
