"""The rows of a file, a window at a time and as often as wanted, in memory that does not grow."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from textassay.console import counted
from textassay.data.cells import MISSING, kind_of_value, text_of_value, why_no_text
from textassay.data.clean import SHOWN
from textassay.data.columns import find_text_column, joined_text, note_unread
from textassay.data.delimited import Dialect, problem_of_length
from textassay.data.dialect import find_dialect
from textassay.data.encoding import Encoding, find_encoding
from textassay.data.json_rows import find_items
from textassay.data.options import DELIMITED, ReadOptions
from textassay.data.proportion import in_proportion, refuse_many_cells
from textassay.data.read import (
    BadRow,
    open_delimited,
    refuse_duplicates,
    refuse_file,
    unreadable_parquet,
)
from textassay.data.trained_on import TrainedOn
from textassay.errors import DataError

# A window ends with whichever comes first. So many characters are about a million tokens, which a
# tokenizer holds in 100 MB.
WINDOW_ROWS = 4096
WINDOW_CHARACTERS = 4_000_000
# Parquet is read so many rows at a time, since nobody knows before how long their texts are, and so
# many bytes of a column ahead.
PARQUET_ROWS = 64
READ_AHEAD = 1 << 20


class Row(NamedTuple):
    """The line it begins on (Parquet, JSON arrays: its number from 1), its cells, what is wrong."""

    line: int
    cells: dict[str, Any]
    problem: str | None = None


@dataclass(frozen=True)
class Window:
    """Rows that follow one another; those of a Parquet file also as Arrow has them."""

    rows: list[Row]
    typed: pa.RecordBatch | None = None


@dataclass(frozen=True)
class Source:
    """A file that has been read through once: what is in it, and `windows()` to read it again.

    `text` is the name of the text's column; of the `bad_rows` that cannot be used `bad` has the
    first few.
    """

    path: Path
    names: list[str]
    text: str
    rows: int
    windows: Callable[[], Iterator[Window]]
    schema: pa.Schema | None = None
    bad: list[BadRow] = field(default_factory=list)
    bad_rows: int = 0
    notes: list[str] = field(default_factory=list)


def open_source(
    path: Path,
    text_column: str | None = None,
    options: ReadOptions | None = None,
    model: TrainedOn | None = None,
) -> Source:
    """Read a csv, tsv, json, jsonl or parquet file through, as `read_file` would.

    The text's column is `text_column`, else the one that `model` was trained on, else found by its
    name. Raises DataError where the file as a whole cannot be used.
    """
    options = options or ReadOptions()
    refuse_file(path)
    options.refuse_unused([path])
    with in_proportion([path]):
        return _read_through(path, text_column, options, model)


def _read_through(
    path: Path, text_column: str | None, options: ReadOptions, model: TrainedOn | None
) -> Source:
    names, windows, schema, notes = _open(path, options)
    names = names or list(
        dict.fromkeys(name for window in windows() for row in window.rows for name in row.cells)
    )
    told = text_column or (model.text_column_in(names) if model else None)
    text = find_text_column(str(path), names, told)
    if told is None:
        first = [row.cells for row in next(iter(windows()), Window([])).rows]
        seen = {name: [c for row in first if isinstance(c := row.get(name), str)] for name in names}
        notes = [*notes, *note_unread(seen, text)]
    count = bad_rows = 0
    bad: list[BadRow] = []
    empty: list[int] = []
    for row in (row for window in windows() for row in window.rows):
        read, problem = text_of(row, text)
        if not problem and not read.strip():
            empty.append(row.line)
        if problem and bad_rows < SHOWN:
            bad.append(BadRow(str(path), row.line, problem))
        count += 1
        bad_rows += problem is not None
    if not count:
        raise DataError(f"{path}: has a header but no rows.")
    refuse_many_cells(path, count * len(names))
    if empty:
        notes.append(
            f"{counted(len(empty), 'text')} without a character (first on line {empty[0]}): "
            "answered like any other, which says nothing"
        )
    return Source(path, names, text, count, windows, schema, bad, bad_rows, notes)


def text_of(row: Row, column: str) -> tuple[str, str | None]:
    """A row's text, and what is wrong with the row.

    An empty text is a text; none at all, and what a program writes for none, is not.

    `column` may name several by commas, whose texts are joined.
    """
    parts = [column] if column in row.cells else [part.strip() for part in column.split(",")]
    cells = [row.cells.get(part) for part in parts]
    kind = next(filter(None, map(kind_of_value, cells)), None)
    texts = [text_of_value(cell) for cell in cells]
    text = texts[0] if len(texts) == 1 else joined_text(tuple(texts))
    problem = row.problem or (f"has {kind} where a text is expected" if kind else None)
    if text is None or text.strip() in MISSING:
        problem = problem or why_no_text(text)
    elif problem is None:
        problem = problem_of_length(text)
    return text or "", problem


def windows_of(rows: Iterable[Row]) -> Iterator[Window]:
    """Rows in windows, whose ends depend on the rows alone."""
    window: list[Row] = []
    size = 0
    for row in rows:
        window.append(row)
        size += sum(len(cell) for cell in row.cells.values() if isinstance(cell, str))
        if len(window) == WINDOW_ROWS or size >= WINDOW_CHARACTERS:
            yield Window(window)
            window, size = [], 0
    if window:
        yield Window(window)


Opened = tuple[list[str] | None, Callable[[], Iterator[Window]], pa.Schema | None, list[str]]


def _open(path: Path, options: ReadOptions) -> Opened:
    if path.suffix.lower() == ".parquet":
        return _open_parquet(path)
    encoding = find_encoding(path, options.encoding)
    if path.suffix.lower() in DELIMITED:
        return _open_delimited(path, options, encoding)
    items = find_items(path, encoding.name, options.column_names)
    notes = [encoding.note] if encoding.note else []
    return None, lambda: windows_of(row_of_item(*item) for item in items()), None, notes


def _open_delimited(path: Path, options: ReadOptions, encoding: Encoding) -> Opened:
    dialect, notes = find_dialect(path, options, encoding)
    names, _ = open_delimited(dialect, options.column_names)
    rows = partial(_delimited_rows, dialect, options.column_names)
    return names, lambda: windows_of(rows()), None, notes


def _delimited_rows(dialect: Dialect, column_names: list[str] | None) -> Iterator[Row]:
    names, found = open_delimited(dialect, column_names)
    last = len(names) - 1
    for record in found:
        fields = record.fields
        if len(fields) > len(names):  # nothing is lost: the last column takes what is left over
            fields = [*fields[:last], dialect.delimiter.join(fields[last:])]
        yield Row(record.line, dict(zip(names, fields, strict=False)), record.problem)


def row_of_item(number: int, item: Any, problem: str | None) -> Row:
    """A row from an entry of JSON, which must be an object of whole characters."""
    if problem:
        return Row(number, {}, problem)
    if not isinstance(item, dict):
        return Row(number, {}, "is not an object of names and values")
    try:
        json.dumps(item, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        whole = json.dumps(item, ensure_ascii=False).encode(errors="replace")
        return Row(
            number, json.loads(whole), "holds half of a surrogate pair; it is not valid text"
        )
    return Row(number, item)


def _open_parquet(path: Path) -> Opened:
    with _readable(path), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        refuse_many_cells(path, file.metadata.num_rows * len(schema.names))
    refuse_duplicates(str(path), schema.names)
    return schema.names, partial(_parquet_windows, path), schema, []


def _parquet_windows(path: Path) -> Iterator[Window]:
    number = 1
    for batch in _joined(_small_batches(path)):
        with _readable(path):
            cells = batch.to_pylist()
        rows = (Row(line, row) for line, row in enumerate(cells, start=number))
        start = 0
        for window in windows_of(rows):
            yield Window(window.rows, batch.slice(start, len(window.rows)))
            start += len(window.rows)
        number += len(cells)
        refuse_many_cells(path, number * batch.num_columns)


def _joined(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches as large as a window may be."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= WINDOW_ROWS or sum(b.nbytes for b in held) >= WINDOW_CHARACTERS:
            yield pa.concat_batches(held)
            held = []
    if held:
        yield pa.concat_batches(held)


def _small_batches(path: Path) -> Iterator[pa.RecordBatch]:
    size = min(PARQUET_ROWS, WINDOW_ROWS)
    with _readable(path), pq.ParquetFile(path, buffer_size=READ_AHEAD) as file:
        yield from filter(len, file.iter_batches(batch_size=size, use_threads=False))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """A block in which Arrow's errors become DataErrors that name the file."""
    try:
        yield
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise unreadable_parquet(path, error) from None
