"""Texts without labels, as more rows for a student: from any file, and none that is tested on."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from textassay.config.schema import DataSection
from textassay.console import counted
from textassay.data.cells import is_missing, why_no_text
from textassay.data.clean import SCHEMA, settle_bad_rows
from textassay.data.columns import (
    Columns,
    find_text_in,
    note_columns,
    parts_of,
)
from textassay.data.options import ReadOptions
from textassay.data.read import BadRow, Rows, read_files, values
from textassay.data.words import normalized


def load_unlabelled(
    names: Sequence[str], section: DataSection, held_out: Sequence[pa.Table]
) -> tuple[pa.Table, list[str]]:
    """The texts of files as a table like a split's, every label null, and notes on what was found.

    A file may have a label column; it is not read. `section` says how text columns are called and
    what becomes of bad rows. Texts that count the same as one in `held_out`, the splits that judge,
    are left out. Raises DataError for files that cannot be used.
    """
    judging = {hash(normalized(text)) for table in held_out for text in values(table["text"])}
    parts, bad, notes, left_out = [], [], [], 0
    # The options are those of the labelled files, which may be of other formats.
    for rows in read_files([Path(name) for name in names], ReadOptions.of(section), False):
        notes += [f"{rows.file}: {note}" for note in rows.notes]
        found, empty, more = _usable(rows, section.text_column)
        notes += more
        bad += rows.bad + empty
        kept = [row for row in found if hash(normalized(row[0])) not in judging]
        left_out += len(found) - len(kept)
        texts, lines = zip(*kept, strict=True) if kept else ((), ())
        columns = (texts, [None] * len(kept), [rows.file] * len(kept), lines)
        parts.append(pa.table(list(map(pa.array, columns, SCHEMA.types)), schema=SCHEMA))
    notes += settle_bad_rows(bad, section.on_bad_rows)
    table = pa.concat_tables(parts or [SCHEMA.empty_table()])
    if names:
        notes.append(f"unlabelled: {counted(len(table), 'text')} to learn the teacher's answers on")
    if left_out:
        notes.append(
            f"unlabelled: {counted(left_out, 'text')} left out that stand in validation or test"
        )
    return table, notes


def _usable(rows: Rows, told: str | None) -> tuple[list[tuple[str, int]], list[BadRow], list[str]]:
    """(text, line) of every row that has a text, the rows that have none, notes on the columns.

    The column told for the labelled rows need not be in a file without labels.
    """
    names = list(rows.columns)
    here = told is not None and set(parts_of(names, told)) <= set(names)
    told = told if here else None
    column = find_text_in(rows, told)
    columns = Columns(column, "")  # a label is not read, and no text
    notes = [f"{rows.file}: {note}" for note in note_columns(rows, columns, told)]
    pairs: Iterator[tuple[str | None, int]] = zip(
        values(rows.columns[column]), values(rows.lines), strict=True
    )
    found, empty = [], []
    for text, line in pairs:
        if text and not is_missing(text):
            found.append((text, line))
        else:
            empty.append(BadRow(rows.file, line, why_no_text(text)))
    return found, empty, notes
