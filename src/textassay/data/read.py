"""From one file to a table of text columns, with the place of every row and nothing lost."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from textassay.data.delimited import Dialect, Record, batches, find_dialect, records
from textassay.data.encoding import find_encoding
from textassay.errors import DataError

AT_ONCE = 50_000


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

    def __len__(self) -> int:
        return len(self.lines)


def values(column: pa.ChunkedArray) -> Iterator[Any]:
    """The values of a column one after another; a large one never stands in memory as a list."""
    for chunk in column.chunks:
        for start in range(0, len(chunk), AT_ONCE):
            yield from chunk.slice(start, AT_ONCE).to_pylist()


def read_file(path: Path, column_names: list[str] | None = None) -> Rows:
    """Read a csv, tsv, json, jsonl or parquet file.

    `column_names` names the columns of a file without a header line. Rows that cannot be parsed
    are in `bad`. Raises DataError where the file as a whole cannot be used.
    """
    refuse_file(path)
    rows = READERS[path.suffix.lower()](path, column_names)
    if not len(rows) and not rows.bad:
        raise DataError(f"{path}: has a header but no rows.")
    return rows


def refuse_file(path: Path) -> None:
    """DataError for what is no file, is empty, has the name of no format, or may not be read."""
    if not os.path.isfile(path):  # noqa: PTH113 (Path.is_file raises for names that are too long)
        raise DataError(f"{path}: there is no such file.")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty.")
    if path.suffix.lower() not in READERS:
        raise DataError(f"{path}: is none of {', '.join(READERS)}; convert it to one of them.")
    try:
        path.open("rb").close()
    except PermissionError:
        raise DataError(f"{path}: may not be read by this user; change its mode.") from None


def table_rows(name: str, table: pa.Table, notes: list[str] | None = None) -> Rows:
    """Rows from an Arrow table; numbers become text, as they would stand in a CSV."""
    columns = {column: _as_text(table[column]) for column in table.column_names}
    numbers = pa.chunked_array([pa.array(range(1, len(table) + 1), pa.int64())])
    return Rows(name, columns, numbers, notes=notes or [])


def _read_delimited(path: Path, column_names: list[str] | None) -> Rows:
    dialect, notes = find_dialect(path)
    names, found = open_delimited(dialect, column_names)
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
    names = [name.strip().lstrip("\ufeff") for name in header.fields]
    refuse_duplicates(dialect.path, names)
    return names, found


def _collect(path: Path, names: list[str], found: Iterator[Record], notes: list[str]) -> Rows:
    chunks: dict[str, list[pa.Array]] = {name: [] for name in names}
    lines: list[pa.Array] = []
    bad: list[BadRow] = []
    for batch in batches(found):
        problems = [problem_of(record, names) for record in batch]
        good = [r for r, problem in zip(batch, problems, strict=True) if problem is None]
        bad += [BadRow(str(path), record.line, problem)
                for record, problem in zip(batch, problems, strict=True) if problem]  # fmt: skip
        for position, name in enumerate(names):
            chunks[name].append(_text_array([r.fields[position] for r in good], path))
        lines.append(pa.array([r.line for r in good], pa.int64()))
    columns = {name: pa.chunked_array(parts, pa.large_string()) for name, parts in chunks.items()}
    return Rows(str(path), columns, pa.chunked_array(lines, pa.int64()), bad, notes)


def problem_of(record: Record, names: list[str]) -> str | None:
    """Why a record is no row of these columns; None if it is one."""
    if record.problem is None and len(record.fields) != len(names):
        return f"has {len(record.fields)} fields for {len(names)} columns"
    return record.problem


def _text_array(values: list[str], path: Path) -> pa.Array:
    try:
        return pa.array(values, pa.large_string())
    except UnicodeEncodeError:
        raise DataError(f"{path}: holds half of a surrogate pair; it is not valid text.") from None


def refuse_duplicates(path: Path, names: list[str]) -> None:
    """DataError where two columns bear one name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: has the column {twice[0]!r} more than once; rename one of them.")


def _read_json_lines(path: Path, _: list[str] | None) -> Rows:
    encoding, note = find_encoding(path)
    items: list[tuple[int, Any]] = []
    bad: list[BadRow] = []
    with path.open(encoding=encoding, newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            item, problem = parse_line(line)
            if problem:
                bad.append(BadRow(str(path), number, problem))
            else:
                items.append((number, item))
    return _rows_of_items(path, items, bad, [note] if note else [])


def parse_line(line: str) -> tuple[Any, str | None]:
    """What a line of JSON says, or what is wrong with it."""
    try:
        return json.loads(line), None
    except RecursionError:
        return None, "is JSON nested too deeply"
    except ValueError as error:  # of json, or a number of more digits than Python reads
        return None, f"is not valid JSON ({getattr(error, 'msg', 'a number is too long')})"


def _read_json(path: Path, _: list[str] | None) -> Rows:
    encoding, note = find_encoding(path)
    content = read_array(path, encoding)
    if content is None:
        return _read_json_lines(path, None)
    return _rows_of_items(path, list(enumerate(content, start=1)), [], [note] if note else [])


def read_array(path: Path, encoding: str) -> list[Any] | None:
    """The entries of a JSON file; None where JSON Lines bear the name of JSON, which is common."""
    try:
        content = json.loads(path.read_text(encoding=encoding))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return None
        raise DataError(f"{path}, line {error.lineno}: is not valid JSON ({error.msg}).") from None
    except RecursionError:
        raise DataError(f"{path}: is JSON nested too deeply to be a list of rows.") from None
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        content = lists[0] if len(lists) == 1 else [content]
    if not isinstance(content, list):
        raise DataError(f"{path}: is not a list of objects with names and values.")
    if content and not any(isinstance(item, dict) for item in content):
        raise DataError(f"{path}: its first entry is not an object with a text and a label.")
    return content


def _rows_of_items(
    path: Path, items: list[tuple[int, Any]], bad: list[BadRow], notes: list[str]
) -> Rows:
    good = [(number, item) for number, item in items if isinstance(item, dict)]
    bad += [BadRow(str(path), number, "is not an object of names and values")
            for number, item in items if not isinstance(item, dict)]  # fmt: skip
    if bad and not good:
        raise DataError(f"{bad[0]}; no row of the file can be used.")
    names = list(dict.fromkeys(name for _, item in good for name in item))
    columns = {}
    for name in names:
        values = [value_as_text(item.get(name)) for _, item in good]
        columns[name] = pa.chunked_array([_text_array(values, path)])  # type: ignore[arg-type]
    lines = pa.chunked_array([pa.array([number for number, _ in good], pa.int64())])
    return Rows(str(path), columns, lines, bad, notes)


def value_as_text(value: Any) -> str | None:
    """A value of JSON or Parquet as it would stand in a CSV; None where there is none."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 1:
        return value_as_text(value[0])
    return json.dumps(value, ensure_ascii=False, default=str)  # Parquet has dates and bytes


def _read_parquet(path: Path, _: list[str] | None) -> Rows:
    try:
        table = pq.read_table(path, memory_map=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: is not a readable Parquet file ({error}).") from None
    return table_rows(str(path), table)


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.cast(pa.large_string())
    if pa.types.is_integer(column.type):
        return column.cast(pa.large_string())
    values = [value_as_text(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(values, pa.large_string())])


READERS: dict[str, Callable[[Path, list[str] | None], Rows]] = {
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}
