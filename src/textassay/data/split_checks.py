"""What is said, or refused, of splits as a whole: the same texts, too few rows, absent labels."""

import pyarrow as pa
import pyarrow.compute as pc

from textassay.console import counted
from textassay.data.labels import LabelMap
from textassay.data.split import distinct_texts, overlap, sample
from textassay.errors import DataError, UsageError

SPLITS = ("train", "validation", "test")
SHOWN = 3
# A share of repeated texts that needs no mention.
STRAY = 0.01


def refuse_identical(tables: dict[str, pa.Table]) -> None:
    """DataError where validation or test is train once more."""
    train = tables["train"]
    for split in ("validation", "test"):
        other = tables.get(split)
        if other is not None and len(other) == len(train) and overlap(other, train) == len(other):
            raise DataError(
                f"{file_of(other, split)}: every {split} row also stands in train, so its score "
                "would say nothing; name another file, or leave it out to have it cut off train."
            )


def count_overlaps(tables: dict[str, pa.Table]) -> list[str]:
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


def sample_splits(tables: dict[str, pa.Table], rows: int | None, seed: int) -> list[str]:
    """Leave at most `rows` rows of each split. UsageError where they cannot hold every label."""
    if rows is None:
        return []
    notes = []
    for split in SPLITS:
        labels = len(labels_of(tables[split]))
        if rows < labels:
            raise UsageError(
                f"data.max_samples: {counted(rows, 'row')} cannot hold the {labels} labels of "
                f"{split}; name "
                f"{labels} or more."
            )
        before = len(tables[split])
        tables[split] = sample(tables[split], rows, seed)
        if len(tables[split]) < before:
            notes.append(
                f"{split}: {len(tables[split]):,} of {counted(before, 'row')} (max_samples)"
            )
    return notes


def note_repeats(name: str, table: pa.Table) -> list[str]:
    """A note where a table has fewer texts than rows, and repeats are more than stray."""
    if pc.count_distinct(table["text"]).as_py() == len(table):  # fast, and nearly always so
        return []
    distinct, most = distinct_texts(table)
    if len(table) - distinct <= STRAY * len(table):
        return []
    return [
        f"{name}: {len(table):,} rows hold {distinct:,} distinct texts, one of them {most:,} times"
    ]


def note_splits(tables: dict[str, pa.Table], labels: LabelMap) -> list[str]:
    """Notes on splits that repeat texts, and on those that have no row of a label."""
    notes = []
    for split in SPLITS:
        notes += note_repeats(split, tables[split])
        absent = [name for name in labels.names if name not in labels_of(tables[split])]
        if absent:
            shown = ", ".join(absent[:SHOWN]) + (" …" if len(absent) > SHOWN else "")
            notes.append(f"{split}: no row has the label {shown}, so its scores say nothing of it")
    return notes


def labels_of(table: pa.Table) -> set[str]:
    """The labels that occur."""
    return set(table["label"].unique().to_pylist())


def file_of(table: pa.Table, split: str) -> str:
    """The file that a split is from, or its name where it has no row."""
    return str(table["file"][0]) if len(table) else split
