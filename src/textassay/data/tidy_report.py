"""The files that a mended copy consists of: its rows, and the report of what was done."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from os.path import realpath
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from textassay.console import out, table
from textassay.data.cells import BYTES
from textassay.data.formulas import escape_formula
from textassay.data.json_rows import find_items
from textassay.data.proportion import in_proportion, read_parquet
from textassay.data.read import SUFFIXES, Rows, read_file, values
from textassay.data.tidy import Tidied, Touched
from textassay.errors import DataError, UsageError

JSON = (".json", ".jsonl")
# The csv module of Python 3.11 leaves a carriage return bare; a header must show one delimiter.
NEEDS_QUOTES = re.compile(r'[",;|\t\r\n]')


def refuse_outputs(source: Path, output: Path, others: list[Path], force: bool) -> None:
    """UsageError where a file cannot be written: it is the input, is there, or has a wrong name."""
    if output.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{output}: ends in none of {', '.join(SUFFIXES)}; name it after one.")
    known = {realpath(source): "the input, which is never written to"}
    for path in (output, *others):
        same = known.get(realpath(path))
        if path.exists() and source.exists() and path.samefile(source):  # a hard link
            same = known[realpath(source)]
        if same:
            raise UsageError(f"{path}: is {same}; name another file.")
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise UsageError(f"{path}: is a folder or a link, not a file; name another file.")
        if path.exists() and not force:
            raise UsageError(f"{path}: is there already; name another file or add --force.")
        known[realpath(path)] = "named twice"


def write_rows(tidied: Tidied, path: Path, escape_formulas: bool = False) -> None:
    """Write the rows that stay in the format that the ending of `path` names, and read them back.

    Other columns keep their types from JSON to JSON and from Parquet to Parquet; otherwise they are
    the text that `read_file` made of them. In CSV and TSV `escape_formulas` puts `'` before what a
    spreadsheet would compute. Raises DataError if the format cannot hold the rows.
    """
    escape = escape_formula if escape_formulas else _as_it_is
    suffix = path.suffix.lower()
    if suffix != ".parquet":
        _refuse_bytes(tidied.rows)
    if suffix == ".parquet":
        pq.write_table(_as_table(tidied), path)
    elif suffix in JSON:
        lines = (json.dumps(item, ensure_ascii=False) for item in _objects(tidied))
        text = "[\n" + ",\n".join(lines) + "\n]\n" if suffix == ".json" else "\n".join(lines) + "\n"
        path.write_text(text, encoding="utf-8", newline="")
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            delimiter = "\t" if suffix == ".tsv" else ","
            stream.writelines(_delimited(tidied.columns, delimiter, escape))
    for name in (tidied.names.text, tidied.names.label):
        written = tidied.columns[name]
        if escape_formulas:
            written = pa.chunked_array([[escape(cell) for cell in values(written)]], written.type)
        if not _is_read_back(path, str(escape(name)), written):
            raise DataError(
                f"{tidied.rows.file}: the column {name!r} would not be read back from {suffix} as "
                "it was written; name an --output that ends in .jsonl."
            )


def _as_it_is(cell: str | None) -> str | None:
    return cell


def _is_read_back(path: Path, name: str, column: pa.ChunkedArray) -> bool:
    try:
        back = read_file(path).columns
    except DataError:
        return False
    return name in back and back[name].equals(column)


def _refuse_bytes(rows: Rows) -> None:
    """DataError for a column of bytes that only Parquet can hold."""
    for name, kinds in rows.kinds.items():
        if BYTES in kinds:
            raise DataError(
                f"{rows.file}, line {kinds[BYTES]}: the column {name!r} holds {BYTES}; name an "
                "--output that ends in .parquet."
            )


def _delimited(
    columns: dict[str, pa.ChunkedArray], delimiter: str, escape: Callable[[str | None], str | None]
) -> Iterator[str]:
    for cells in chain([columns], zip(*map(values, columns.values()), strict=True)):
        yield delimiter.join(map(quoted, map(escape, cells))) + "\n"


def quoted(cell: str | None) -> str:
    """A cell as it stands in a CSV or TSV that `read_file` reads back."""
    if cell and NEEDS_QUOTES.search(cell):
        return '"' + cell.replace('"', '""') + '"'
    return cell or ""


def _objects(tidied: Tidied) -> Iterator[dict[str, Any]]:
    rows = zip(*map(values, tidied.columns.values()), strict=True)
    items = [dict(zip(tidied.columns, row, strict=True)) for row in rows]
    if Path(tidied.rows.file).suffix.lower() not in JSON:
        return iter(items)
    pairs = zip(_typed(tidied), items, strict=True)
    return (typed | {name: item[name] for name in tidied.mended} for typed, item in pairs)


def _typed(tidied: Tidied) -> list[dict[str, Any]]:
    """The objects of a JSON file that stay, as they stand there; numbered as `read_file` does."""
    encoding = tidied.rows.encoding.name if tidied.rows.encoding else "utf-8"
    items = find_items(Path(tidied.rows.file), encoding)()
    by_number = {item.number: item.value for item in items}
    return [by_number[number] for number in values(tidied.rows.lines.take(tidied.kept))]


def _as_table(tidied: Tidied) -> pa.Table:
    path = Path(tidied.rows.file)
    if path.suffix.lower() != ".parquet":
        return pa.table(tidied.columns)
    with in_proportion([path]):
        typed = read_parquet(path).take(tidied.kept)
    for name in tidied.mended:
        at = typed.column_names.index(name)
        typed = typed.set_column(at, name, tidied.columns[name])
        typed = typed.replace_schema_metadata(None)  # it describes the column as it was
    return typed


def report(tidied: Tidied) -> dict[str, Any]:
    """How many rows, and {kind: {rows, example}} of repairs, rows left out, rows kept in doubt."""
    rows, path = tidied.rows, Path(tidied.rows.file)
    read = len(rows) + len(rows.bad)
    kinds: dict[str, dict[str, Any]] = {"repaired": {}, "left_out": {}, "kept": {}}
    encoding = rows.encoding.name if rows.encoding else "utf-8"
    if encoding != "utf-8":
        kinds["repaired"]["encoding"] = {"rows": read, "example": f"{encoding} → utf-8"}
    # A row with no other repair shows best what a repair does.
    for row in sorted(tidied.touched, key=lambda row: len(row.repaired)):
        seen = [("repaired", kind, _difference(row, kind)) for kind in row.repaired]
        if row.found:
            section = "left_out" if row.left_out else "kept"
            seen.append((section, row.found, f"line {row.line} {row.why}"))
        for section, kind, example in seen:
            kinds[section].setdefault(kind, {"rows": 0, "example": example})["rows"] += 1
    left = Counter(values(tidied.columns[tidied.names.label]))
    labels = {label: {"before": tidied.usable[label], "after": left[label]}
              for label in sorted(tidied.usable)}  # fmt: skip
    return {"file": str(path), "read": read, "written": len(tidied.kept), **kinds, "labels": labels}


def _difference(row: Touched, kind: str) -> str:
    """Where a repaired cell first differs from what was read, with little around it."""
    cell = "label" if kind == "labels" else "text"
    old, new = ((cells or {})[cell] or "" for cells in (row.before, row.after))
    same = [a == b for a, b in zip(old, new, strict=False)]
    start = max(0, (same.index(False) if False in same else len(new)) - 8)
    return f"line {row.line}: {old[start : start + 24]!r} → {new[start : start + 24]!r}"


def print_report(done: dict[str, Any], output: Path) -> None:
    """Print `report` as one table."""
    from rich.markup import escape

    lines = [["read", f"{done['read']:,}", ""]]
    for section in ("repaired", "left_out", "kept"):
        for kind, entry in done[section].items():
            named = f"{section.replace('_', ' ')}: {kind}"
            lines.append([named, f"{entry['rows']:,}", escape(entry["example"])])
    lines.append(["written", f"{done['written']:,}", escape(str(output))])
    for label, rows in done["labels"].items():
        lines.append([f"label {escape(label)}", f"{rows['after']:,}", f"of {rows['before']:,}"])
    made = table(escape(done["file"]), ["", "rows", "for example"], lines, of_texts=True)
    made.columns[2].justify = "left"
    out().print(made)
