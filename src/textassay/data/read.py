"""From one file to a table of text columns, with the place of every row and nothing lost."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from textassay.data.arrow_columns import class_names, text_columns
from textassay.data.cells import text_column
from textassay.data.delimited import Dialect, Record, batches, records
from textassay.data.dialect import find_dialect, unnamed_name
from textassay.data.encoding import PARQUET, Encoding, find_encodings, refuse_packed
from textassay.data.json_rows import find_items
from textassay.data.options import DELIMITED, ReadOptions
from textassay.data.proportion import in_proportion, read_parquet, refuse_many_cells
from textassay.errors import DataError, first_line

AT_ONCE = 50_000
SUFFIXES = (*DELIMITED, ".json", ".jsonl", ".parquet")
# What people hand over beside these, and what makes one of them of it.
PACKED = {
    ".gz": "unpack it first (gzip -dk FILE)",
    ".zip": "unpack it first (unzip FILE)",
    ".bz2": "unpack it first (bzip2 -dk FILE)",
    ".xz": "unpack it first (xz -dk FILE)",
    ".zst": "unpack it first (zstd -d FILE)",
    ".xlsx": "save the sheet as CSV UTF-8 in the spreadsheet program",
    ".xls": "save the sheet as CSV UTF-8 in the spreadsheet program",
    ".ods": "save the sheet as CSV UTF-8 in the spreadsheet program",
    ".ndjson": "rename it to end in .jsonl",
    ".txt": "rename it to end in .tsv or .csv",
}


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}"


@dataclass
class Rows:
    """What a file holds: `columns` of text by name, all with one value for each entry of `lines`.

    `lines` says where each row starts (for Parquet and JSON arrays: its number from 1).
    """

    file: str
    columns: dict[str, pa.ChunkedArray]
    lines: pa.ChunkedArray
    bad: list[BadRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    encoding: Encoding | None = None
    # {column: {what a value is that is no text: the line of the first one}}
    kinds: dict[str, dict[str, int]] = field(default_factory=dict)
    class_names: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)


def values(column: pa.ChunkedArray) -> Iterator[Any]:
    """The values of a column one after another; a large one never stands in memory as a list."""
    for chunk in column.chunks:
        for start in range(0, len(chunk), AT_ONCE):
            yield from chunk.slice(start, AT_ONCE).to_pylist()


def read_files(
    paths: Sequence[Path], options: ReadOptions | None = None, refuse_unused: bool = True
) -> list[Rows]:
    """Read the csv, tsv, json, jsonl or parquet files of one data set.

    `refuse_unused`: an option that none of the files can take is a UsageError.
    Rows that cannot be parsed are in `bad`. Raises DataError where a whole file cannot be used.
    """
    options = options or ReadOptions()
    for path in paths:
        refuse_file(path)
    if refuse_unused:
        options.refuse_unused(list(paths))
    texts = [path for path in paths if path.suffix.lower() != ".parquet"]
    encodings = find_encodings(texts, options.encoding)
    with in_proportion(paths):
        return [_read(path, options, encodings.get(path)) for path in paths]


def read_file(path: Path, options: ReadOptions | None = None) -> Rows:
    """Read one file; see `read_files`."""
    return read_files([path], options)[0]


def _read(path: Path, options: ReadOptions, encoding: Encoding | None) -> Rows:
    if encoding is None:
        rows = _read_parquet(path)
    elif path.suffix.lower() in DELIMITED:
        rows = _read_delimited(path, options, encoding)
    else:
        rows = _read_json(path, options, encoding)
    rows.encoding = encoding
    if not len(rows) and not rows.bad:
        raise DataError(f"{path}: has a header but no rows.")
    return rows


def refuse_file(path: Path) -> None:
    """DataError for what is no file, is empty, has the name of no format, or may not be read."""
    if not os.path.isfile(path):  # noqa: PTH113 (Path.is_file raises for names that are too long)
        raise DataError(f"{path}: there is no such file.")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty.")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        advice = PACKED.get(suffix, "convert it to one of them")
        raise DataError(f"{path}: is none of {', '.join(SUFFIXES)}; {advice}.")
    try:
        path.open("rb").close()
    except PermissionError:
        raise DataError(f"{path}: may not be read by this user; change its mode.") from None


def table_rows(name: str, table: pa.Table, notes: list[str] | None = None) -> Rows:
    """Rows from an Arrow table; numbers become text, as they would stand in a CSV."""
    refuse_duplicates(name, table.column_names)
    columns, positions = text_columns(table)
    kinds = {column: {kind: at + 1 for kind, at in of.items()} for column, of in positions.items()}
    numbers = pa.chunked_array([pa.array(range(1, len(table) + 1), pa.int64())])
    return Rows(name, columns, numbers, notes=notes or [], kinds=kinds,
                class_names=class_names(table.schema))  # fmt: skip


def _read_delimited(path: Path, options: ReadOptions, encoding: Encoding) -> Rows:
    dialect, notes = find_dialect(path, options, encoding)
    names, found = open_delimited(dialect, options.column_names)
    return _collect(path, names, found, notes)


def open_delimited(
    dialect: Dialect, column_names: list[str] | None
) -> tuple[list[str], Iterator[Record]]:
    """The column names, those of the header line unless they are given, and the records below."""
    found = records(dialect)
    if column_names is not None:
        return column_names, found
    header = next(found, None)
    if header is None:
        raise DataError(f"{dialect.path}: is empty.")
    kept = [at for at in range(len(header.fields)) if at not in dialect.unused]
    names = [header.fields[at].strip().lstrip("\ufeff") or unnamed_name(at) for at in kept]
    refuse_duplicates(str(dialect.path), names)
    if dialect.unused:
        found = (_without(record, kept, len(header.fields)) for record in found)
    return names, found


def _without(record: Record, kept: list[int], width: int) -> Record:
    if len(record.fields) != width:  # it stays the wrong row that it is
        return record
    return record._replace(fields=[record.fields[at] for at in kept])


def _collect(path: Path, names: list[str], found: Iterator[Record], notes: list[str]) -> Rows:
    chunks: dict[str, list[pa.Array]] = {name: [] for name in names}
    lines: list[pa.Array] = []
    bad: list[BadRow] = []
    for batch in batches(found):
        good = [record for record in batch if record.problem is None]
        bad += [BadRow(str(path), r.line, r.problem) for r in batch if r.problem is not None]
        for position, name in enumerate(names):
            chunks[name].append(_text_array([r.fields[position] for r in good], path))
        lines.append(pa.array([r.line for r in good], pa.int64()))
    columns = {name: pa.chunked_array(parts, pa.large_string()) for name, parts in chunks.items()}
    return Rows(str(path), columns, pa.chunked_array(lines, pa.int64()), bad, notes)


def _text_array(values: list[str], path: Path) -> pa.Array:
    try:
        return pa.array(values, pa.large_string())
    except UnicodeEncodeError:
        raise _half_a_pair(path) from None


def _half_a_pair(path: Path) -> DataError:
    return DataError(f"{path}: holds half of a surrogate pair; it is not valid text.")


def refuse_duplicates(file: str, names: list[str]) -> None:
    """DataError where two columns bear one name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{file}: has the column {twice[0]!r} more than once; rename one of them.")


def _read_json(path: Path, options: ReadOptions, encoding: Encoding) -> Rows:
    good, bad = [], []
    for item in find_items(path, encoding.name, options.column_names)():
        if item.problem is None and isinstance(item.value, dict):
            good.append(item)
        else:
            problem = item.problem or "is not an object of names and values"
            bad.append(BadRow(str(path), item.number, problem))
    if bad and not good:
        raise DataError(f"{bad[0]}; no row of the file can be used.")
    numbers = [item.number for item in good]
    columns, kinds = {}, {}
    names = dict.fromkeys(name for item in good for name in item.value)
    refuse_many_cells(path, len(names) * len(good))
    for name in names:
        try:
            array, odd = text_column(item.value.get(name) for item in good)
        except UnicodeEncodeError:
            raise _half_a_pair(path) from None
        columns[name] = pa.chunked_array([array])
        if odd:
            kinds[name] = {kind: numbers[at] for kind, at in odd.items()}
    lines = pa.chunked_array([pa.array(numbers, pa.int64())])
    notes = [encoding.note] if encoding.note else []
    return Rows(str(path), columns, lines, bad, notes, kinds=kinds)


def _read_parquet(path: Path) -> Rows:
    try:
        table = read_parquet(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise unreadable_parquet(path, error) from None
    return table_rows(str(path), table)


def unreadable_parquet(path: Path, error: Exception) -> DataError:
    """What to raise where Arrow cannot read a file, with what the file is instead."""
    with path.open("rb") as stream:
        head = stream.read(64)
    if not head.startswith(PARQUET):
        refuse_packed(path, head)
    return DataError(f"{path}: is not a readable Parquet file ({first_line(error)[:200]}).")
