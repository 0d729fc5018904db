"""From a data section to checked splits: the first half of every run."""

import os
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import pyarrow as pa

from textassay.config.schema import DataSection
from textassay.data.catalog import Entry, Form, read_entry
from textassay.data.clean import (
    SHOWN,
    is_withheld,
    refuse_other_labels,
    refuse_strange_labels,
    settle_bad_rows,
    usable_rows,
)
from textassay.data.columns import find_columns, is_without_label
from textassay.data.hub import read_hub
from textassay.data.labels import LabelMap, refuse_unknown_labels
from textassay.data.layout import find_splits
from textassay.data.options import ReadOptions
from textassay.data.read import BadRow, Rows, read_file, read_files, values
from textassay.data.split import cut, distinct_texts, overlap, refuse_lonely_labels, sample
from textassay.errors import DataError, UsageError
from textassay.files import sha256_text, sha256_texts

SPLITS = ("train", "validation", "test")
LONGEST_HUB_NAME = 96
# A share of repeated texts that needs no mention.
STRAY = 0.01


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


def load_dataset(section: DataSection) -> Dataset:
    """Read, check and split the data of a job.

    Raises DataError (file, line, reason) for data that cannot be used and UsageError for a section
    that names none.
    """
    entry = read_entry(section.name) if section.name else None
    name = entry.name if entry else _plain_name(section)
    files, form = _read_splits(section, entry)
    notes = [f"{rows.file}: {note}" for split in files.values() for rows in split
             for note in rows.notes]  # fmt: skip
    first_file = files["train"][0].file
    notes += _leave_out_unlabelled_test(files, section, form)
    tables, bad = _clean(files, section, form, entry)
    notes += settle_bad_rows(bad, section.on_bad_rows)
    notes += _leave_out_withheld(tables)
    _refuse_unusable(tables, first_file)
    _refuse_identical(tables)
    notes += _count_overlaps(tables)
    if section.labels:
        notes += refuse_other_labels(tables, section.labels)
    seed = _split_seed(section, entry)
    notes += _cut_missing_splits(tables, section, seed)
    found = _labels(tables["train"])
    order = section.labels or (entry.order(found) if entry else None)
    labels = LabelMap.from_labels(found, order)
    for split in ("validation", "test"):
        refuse_unknown_labels(_where(tables[split], split), _labels(tables[split]), labels)
    notes += _sample(tables, section.max_samples, seed)
    notes += _count_texts(tables, labels)
    return Dataset(name, {split: tables[split] for split in SPLITS}, labels, notes)


def load_rows(
    path: Path, section: DataSection, entry: Entry | None = None
) -> tuple[pa.Table, list[str]]:
    """The usable rows of one file, no splits made, and what was noted: to evaluate on any data."""
    form = entry.local if entry else Form()
    rows = read_file(path, ReadOptions.of(section, form.column_names))
    notes = [f"{rows.file}: {note}" for note in rows.notes]
    tables, bad = _clean({"rows": [rows]}, section, form, entry)
    notes += settle_bad_rows(bad, section.on_bad_rows)
    return tables["rows"], notes


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


def _leave_out_unlabelled_test(
    files: dict[str, list[Rows]], section: DataSection, form: Form
) -> list[str]:
    """Leave out a test split that nobody named and that has no label column, as competitions do."""
    label = section.label_column or form.label
    if section.test_file or "test" not in files or len(files) == 1:
        return []
    if not all(is_without_label(list(rows.columns), label) for rows in files["test"]):
        return []
    file = files.pop("test")[0].file
    return [f"{file}: has no label column, so it is left out"]


def _clean(
    files: dict[str, list[Rows]], section: DataSection, form: Form, entry: Entry | None
) -> tuple[dict[str, pa.Table], list[BadRow]]:
    """A table for each split. Takes the rows out of `files`, so that they stand in memory once."""
    meanings = entry.values(form) if entry else None
    tables, bad = {}, []
    for split in list(files):
        cleaned = []
        for rows in files.pop(split):
            columns = find_columns(
                rows, section.text_column or form.text, section.label_column or form.label
            )
            names = rows.class_names.get(columns.label, [])
            known = meanings and meanings | {
                name: meanings[str(number)]
                for number, name in enumerate(names)
                if str(number) in meanings
            }
            withheld = split == "test" and set(rows.columns[columns.label].to_pylist()) == {"-1"}
            usable = usable_rows(rows, columns, None if withheld else known)
            cleaned.append(usable.table)
            bad += usable.bad
        tables[split] = pa.concat_tables(cleaned)
    return tables, bad


def _leave_out_withheld(tables: dict[str, pa.Table]) -> list[str]:
    if "test" in tables and len(tables["test"]) and is_withheld(tables["test"]):
        del tables["test"]
        return ["the published test split has its labels withheld (-1), so it is left out"]
    return []


def _refuse_unusable(tables: dict[str, pa.Table], file: str) -> None:
    if not len(tables["train"]):
        raise DataError(f"{file}: no usable row is left for training.")
    for table in tables.values():
        refuse_strange_labels(table)
    found = _labels(tables["train"])
    if len(found) < 2:
        where = _where(tables["train"], "train")
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
        notes.append(f"{split}: {len(gone):,} rows cut off train (stratified, split seed {seed})")
        if not len(gone):
            where = _where(tables["train"], "train")
            raise DataError(
                f"{where}: has too few rows to cut {split} rows off; add rows or name a {split} "
                "file."
            )
    return notes


def _refuse_identical(tables: dict[str, pa.Table]) -> None:
    train = tables["train"]
    for split in ("validation", "test"):
        other = tables.get(split)
        if other is not None and len(other) == len(train) and overlap(other, train) == len(other):
            raise DataError(
                f"{_where(other, split)}: every {split} row also stands in train, so its score "
                "would say nothing; name another file, or leave it out to have it cut off train."
            )


def _count_overlaps(tables: dict[str, pa.Table]) -> list[str]:
    """Texts that stand in two published splits; what we cut off ourselves has none."""
    notes = []
    for inner, outer in (("validation", "train"), ("test", "train"), ("test", "validation")):
        if inner not in tables or outer not in tables:
            continue
        shared = overlap(tables[inner], tables[outer])
        if shared:
            notes.append(
                f"overlap: {shared:,} of {len(tables[inner]):,} {inner} rows have a text that also "
                f"stands in {outer}"
            )
    return notes


def _sample(tables: dict[str, pa.Table], rows: int | None, seed: int) -> list[str]:
    if rows is None:
        return []
    notes = []
    for split in SPLITS:
        labels = len(_labels(tables[split]))
        if rows < labels:
            raise UsageError(
                f"data.max_samples: {rows} rows cannot hold the {labels} labels of {split}; name "
                f"{labels} or more."
            )
        before = len(tables[split])
        tables[split] = sample(tables[split], rows, seed)
        if len(tables[split]) < before:
            notes.append(f"{split}: {len(tables[split]):,} of {before:,} rows (max_samples)")
    return notes


def _count_texts(tables: dict[str, pa.Table], labels: LabelMap) -> list[str]:
    """Splits with fewer texts than rows, where repeats are more than stray, and without a label."""
    notes = []
    for split in SPLITS:
        rows = len(tables[split])
        distinct, most = distinct_texts(tables[split])
        if rows - distinct > STRAY * rows:
            notes.append(
                f"{split}: {rows:,} rows hold {distinct:,} distinct texts, one of them {most:,} "
                "times"
            )
        absent = [name for name in labels.names if name not in _labels(tables[split])]
        if absent:
            shown = ", ".join(absent[:SHOWN]) + (" …" if len(absent) > SHOWN else "")
            notes.append(f"{split}: no row has the label {shown}, so its scores say nothing of it")
    return notes


def _split_seed(section: DataSection, entry: Entry | None) -> int:
    if section.split_seed is not None:
        return section.split_seed
    return entry.split_seed if entry else 0


def _labels(table: pa.Table) -> set[str]:
    return set(table["label"].unique().to_pylist())


def _where(table: pa.Table, split: str) -> str:
    return str(table["file"][0]) if len(table) else split
