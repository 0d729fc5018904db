"""Rows that can be used, and for every other one the place and the reason."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from textassay.data.cells import is_missing, plain_label
from textassay.data.columns import Columns
from textassay.data.read import AT_ONCE, BadRow, Rows
from textassay.data.read import values as read_values
from textassay.errors import DataError

WHOLE_NUMBER = re.compile(r"^[+-]?\d+$")
DECIMAL = re.compile(r"^[+-]?(\d+\.\d*|\.\d+|\d+(\.\d+)?[eE][+-]?\d+)$")
LIST_OF_SEVERAL = re.compile(r"^\[.*,.*\]$|^\d+(,\d+)+$", re.DOTALL)
SHOWN = 3
PLACES = ("label", "file", "line")
SCHEMA = pa.schema(
    [
        ("text", pa.large_string()),
        ("label", pa.large_string()),
        ("file", pa.string()),
        ("line", pa.int64()),
    ]
)


@dataclass
class Usable:
    """A table of `text`, `label`, `file`, `line`, and the rows that are not in it."""

    table: pa.Table
    bad: list[BadRow]


def usable_rows(rows: Rows, columns: Columns, values: Mapping[str, str] | None = None) -> Usable:
    """The rows of a file that have a text and a label.

    `values` maps what stands in the label column to label names (from the catalog); a label that it
    does not know is a DataError, since leaving it out would change the task.
    """
    columns_found = (rows.columns[columns.text], rows.columns[columns.label], rows.lines)
    bad = list(rows.bad)
    parts = []
    found = zip(*map(read_values, columns_found), strict=True)
    while batch := list(islice(found, AT_ONCE)):
        good = []
        for text, written, line in batch:
            label = plain_label(written)
            problem = _problem(text, label)
            if problem or label is None:
                bad.append(BadRow(rows.file, line, problem or "has no label"))
            else:
                good.append((text, _label_name(label, values, rows.file, line), rows.file, line))
        kept = zip(*good, strict=True) if good else ([], [], [], [])
        parts.append(pa.Table.from_arrays(list(map(pa.array, kept, SCHEMA.types)), schema=SCHEMA))
    bad.sort(key=lambda row: row.line)
    return Usable(pa.concat_tables(parts or [SCHEMA.empty_table()]), bad)


def _problem(text: str | None, label: str | None) -> str | None:
    if is_missing(text):
        return "has no text"
    if label is None or not label.strip() or label.strip().lower() in ("nan", "null", "none"):
        return "has no label"
    if LIST_OF_SEVERAL.match(label.strip()):
        return f"carries several labels ({label.strip()[:40]}) where one is expected"
    return None


def _label_name(label: str, values: Mapping[str, str] | None, file: str, line: int) -> str:
    plain = label.strip()
    if DECIMAL.match(plain) and float(plain).is_integer():
        plain = str(int(float(plain)))  # 1.0 is how spreadsheets write 1
    if values is None or plain in values.values():
        return plain
    if plain not in values:
        known = ", ".join(dict.fromkeys(values.values()))
        raise DataError(f"{file}, line {line}: {plain!r} is no label of this data set ({known}).")
    return values[plain]


def refuse_other_labels(tables: Mapping[str, pa.Table], allowed: Sequence[str]) -> list[str]:
    """DataError for a label that is not among the allowed ones; notes on those without a row."""
    for table in tables.values():
        for label, file, line in zip(*(table[name].to_pylist() for name in PLACES), strict=True):
            if label not in allowed:
                raise DataError(
                    f"{file}, line {line}: the label {label!r} is none of those that may occur "
                    f"({', '.join(allowed)}); mend the row, or add the label to data.labels "
                    "(TARGET_EMOTIONS in an emotion trainer's .env)."
                )
    found = set(tables["train"]["label"].unique().to_pylist())
    return [
        f"no row has the label {label}, so the model does not know it"
        for label in allowed
        if label not in found
    ]


def refuse_strange_labels(table: pa.Table) -> None:
    """DataError where the labels of a table are not classes: measurements, or a mixture."""
    places = zip(*(table[name].to_pylist() for name in PLACES), strict=True)
    numbers, words = None, None
    for label, file, line in places:
        if DECIMAL.match(label):
            raise DataError(
                f"{file}, line {line}: the label {label} is a measurement, not a class; this tool "
                "classifies. Make classes of the numbers first."
            )
        if WHOLE_NUMBER.match(label):
            numbers = numbers or (label, file, line)
        else:
            words = words or (label, file, line)
        if numbers and words:
            raise DataError(
                f"{words[1]}, line {words[2]}: the label {words[0]!r} is a word where line "
                f"{numbers[2]} of {numbers[1]} has the number {numbers[0]}; write all labels alike."
            )


def settle_bad_rows(bad: list[BadRow], on_bad_rows: str) -> list[str]:
    """Refuse bad rows, or say that they are left out; the notes that say so."""
    if not bad:
        return []
    shown = "; ".join(str(row) for row in bad[:SHOWN])
    more = f"; and {len(bad) - SHOWN:,} more" if len(bad) > SHOWN else ""
    count = f"{len(bad):,} row{'s' if len(bad) > 1 else ''}"
    if on_bad_rows == "error":
        raise DataError(
            f"{count} cannot be used: {shown}{more}. Mend them, or leave them out with "
            "--on_bad_rows skip."
        )
    return [f"{count} left out: {shown}{more}"]


def is_withheld(table: pa.Table) -> bool:
    """Whether a split has no labels: hubs mark withheld ones with -1 in every row."""
    return set(Counter(table["label"].to_pylist())) == {"-1"}
