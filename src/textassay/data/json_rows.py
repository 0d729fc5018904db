"""The rows of a JSON or JSON Lines file, in every orientation that pandas and `datasets` write."""

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from textassay.data.known_names import is_known
from textassay.errors import DataError

# What is not JSON Lines has to be read whole, and takes several times its size.
LARGEST_ARRAY = 1 << 30


class Item(NamedTuple):
    """An entry: its line (in a file that is read whole, its number from 1), and what is wrong."""

    number: int
    value: Any
    problem: str | None = None


def find_items(
    path: Path, encoding: str, column_names: list[str] | None = None
) -> Callable[[], Iterator[Item]]:
    """Return a function that reads the entries of a file, each time from the beginning.

    Whether it is JSON Lines is decided by its first lines, not by its name. `column_names` names
    the values of entries that are lists. Raises DataError for what is no table.
    """
    if _has_lines(path, encoding):
        return lambda: _lines(path, encoding, column_names)
    whole = _read_whole(path, encoding)
    if whole is None:
        return lambda: _lines(path, encoding, column_names)
    entries = _entries(path, whole[0], column_names)
    items = [Item(number, _named(entry, column_names)) for number, entry in enumerate(entries, 1)]
    return lambda: iter(items)


def parse_line(line: str) -> tuple[Any, str | None]:
    """Return what a line of JSON says, and what is wrong with it."""
    try:
        return json.loads(line), None
    except RecursionError:
        return None, "is JSON nested too deeply"
    except ValueError as error:  # of json, or a number of more digits than Python reads
        return None, f"is not valid JSON ({getattr(error, 'msg', 'a number is too long')})"


def _has_lines(path: Path, encoding: str) -> bool:
    """Return True if the first line is an entry by itself and another line follows."""
    with path.open(encoding=encoding, newline="\n") as stream:
        first = list(islice((line for line in stream if line.strip()), 2))
    return len(first) == 2 and parse_line(first[0])[1] is None


def _lines(path: Path, encoding: str, column_names: list[str] | None) -> Iterator[Item]:
    with path.open(encoding=encoding, newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                value, problem = parse_line(line)
                yield Item(number, _named(value, column_names), problem)


def _named(entry: Any, column_names: list[str] | None) -> Any:
    if column_names and isinstance(entry, list) and len(entry) == len(column_names):
        return dict(zip(column_names, entry, strict=True))
    return entry


def _read_whole(path: Path, encoding: str) -> tuple[Any] | None:
    """Return the one value of a file; None for JSON Lines after all (a bad first line, say)."""
    lines_by_name = path.suffix.lower() == ".jsonl"
    if path.stat().st_size > LARGEST_ARRAY:
        if lines_by_name:
            return None
        raise DataError(
            f"{path}: has {path.stat().st_size / 1e9:.1f} GB, and JSON that is not one object a "
            "line is read whole; write it as JSON lines (jq -c '.[]' FILE > FILE.jsonl)."
        )
    try:
        content = json.loads(path.read_text(encoding=encoding))
    except json.JSONDecodeError as error:
        if lines_by_name or error.msg == "Extra data":
            return None
        raise DataError(f"{path}, line {error.lineno}: is not valid JSON ({error.msg}).") from None
    except (RecursionError, ValueError):  # ValueError: a number of more digits than Python reads
        if lines_by_name:
            return None
        raise DataError(
            f"{path}: is JSON nested too deeply, or with too long a number, to be a list of rows."
        ) from None
    if lines_by_name and not isinstance(content, dict | list):
        return None
    return (content,)


def _entries(path: Path, content: Any, column_names: list[str] | None) -> list[Any]:
    if isinstance(content, dict):
        content = _entries_of_object(path, content)
    if not isinstance(content, list):
        raise DataError(f"{path}: is not a list of objects with names and values.")
    if content and not any(isinstance(entry, dict) for entry in content):
        if column_names and any(isinstance(entry, list) for entry in content):
            return content
        if all(isinstance(entry, list) for entry in content):
            raise DataError(
                f"{path}: its entries are lists without names; name their values with "
                "--column_names text,label, or write objects."
            )
        raise DataError(f"{path}: its first entry is not an object with a text and a label.")
    return content


def _entries_of_object(path: Path, content: dict[str, Any]) -> list[Any]:
    """Return the rows of an object: pandas' split, table, columns or index, lists, or one row."""
    names, data = content.get("columns"), content.get("data")
    if isinstance(names, list) and isinstance(data, list):
        return [_named(row, names) for row in data]
    lists = {name: value for name, value in content.items() if isinstance(value, list)}
    tables = {name: rows for name, rows in lists.items() if any(map(_is_object, rows))}
    if len(tables) > 1:
        raise DataError(_several_tables(path, list(tables)))
    if tables or (len(lists) == 1 and not any(lists.values())):
        return next(iter((tables or lists).values()))
    if lists and len(lists) == len(content) and len({len(rows) for rows in lists.values()}) == 1:
        return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    if content and all(isinstance(value, dict) for value in content.values()):
        return _entries_of_objects(path, content)
    return [content]


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _entries_of_objects(path: Path, content: dict[str, dict[str, Any]]) -> list[Any]:
    """Return the rows of {column: {index: value}} or {index: {column: value}}, pandas' default.

    Known column names say which; else an index of whole numbers, which pandas gives by default.
    """
    inner = list(dict.fromkeys(name for values in content.values() for name in values))
    cells = [cell for values in content.values() for cell in values.values()]
    lists = bool(cells) and all(isinstance(cell, list) for cell in cells)
    if lists and any(map(is_known, inner)) and any(len(cell) != 1 for cell in cells):
        raise DataError(_several_tables(path, list(content)))
    by_column = any(map(is_known, content))
    by_index = any(map(is_known, inner))
    if by_column == by_index:
        by_column = all(name.isdigit() for name in inner)
        by_index = all(name.isdigit() for name in content)
    if by_column == by_index:
        raise DataError(
            f"{path}: is an object of objects, and neither level has names that say which holds "
            "the columns; write it with DataFrame.to_json(orient='records', lines=True)."
        )
    if by_index:
        return list(content.values())
    return [{name: values.get(index) for name, values in content.items()} for index in inner]


def _several_tables(path: Path, names: list[str]) -> str:
    listed = ", ".join(name[:40] for name in names[:6])
    return (
        f"{path}: holds several tables ({listed}); write each into a file of its own, named after "
        "its split (train.json, validation.json, test.json), and name their folder."
    )
