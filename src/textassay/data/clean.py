"""Rows that can be used, and for every other one the place and the reason."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from textassay.console import counted
from textassay.data.cells import is_missing, why_no_text
from textassay.data.columns import Columns
from textassay.data.delimited import problem_of_length
from textassay.data.label_values import DECIMAL, NO_LABEL, SEVERAL, WHOLE_NUMBER, LabelValues
from textassay.data.read import AT_ONCE, BadRow, Rows
from textassay.data.read import values as read_values
from textassay.errors import DataError

SHOWN = 3
PLACES = ("label", "file", "line")
# What to say of a kind of bad row besides, by how its reason begins.
ADVICE = {
    f"{NO_LABEL} (": "A class that bears such a name has to stand in --labels.",
    SEVERAL: "If each is one class, say --label_type category.",
}
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


def usable_rows(rows: Rows, columns: Columns, labels: LabelValues) -> Usable:
    """The rows of a file that have a text and a label.

    A value that a catalog entry does not know is a DataError, since leaving it out would change the
    task.
    """
    columns_found = (rows.columns[columns.text], rows.columns[columns.label], rows.lines)
    bad = list(rows.bad)
    parts = []
    found = zip(*map(read_values, columns_found), strict=True)
    while batch := list(islice(found, AT_ONCE)):
        good = []
        for text, label, line in batch:
            problem = why_no_text(text) if is_missing(text) else problem_of_length(text)
            problem = problem or labels.problems.get(label)
            if problem:
                bad.append(BadRow(rows.file, line, problem))
            elif label in labels.unknown:
                expected = ", ".join(labels.expected)[:200]
                raise DataError(
                    f"{rows.file}, line {line}: {label.strip()[:40]!r} is no label of this data "
                    f"set ({expected})."
                )
            else:
                good.append((text, labels.classes[label], rows.file, line))
        kept = zip(*good, strict=True) if good else ([], [], [], [])
        parts.append(pa.Table.from_arrays(list(map(pa.array, kept, SCHEMA.types)), schema=SCHEMA))
    bad.sort(key=lambda row: row.line)
    return Usable(pa.concat_tables(parts or [SCHEMA.empty_table()]), bad)


def refuse_other_labels(tables: Mapping[str, pa.Table], allowed: Sequence[str]) -> list[str]:
    """DataError for a label that is not among the allowed ones; notes on those without a row."""
    for table in tables.values():
        for label, file, line in zip(*(table[name].to_pylist() for name in PLACES), strict=True):
            if label not in allowed:
                raise DataError(
                    f"{file}, line {line}: the label {label!r} is none of those that may occur "
                    f"({', '.join(allowed)[:200]}); mend the row, or add the label to data.labels "
                    "(TARGET_EMOTIONS in an emotion trainer's .env)."
                )
    found = set(tables["train"]["label"].unique().to_pylist())
    return [
        f"no row has the label {label}, so the model does not know it"
        for label in allowed
        if label not in found
    ]


def refuse_strange_labels(table: pa.Table, settled: Collection[str] = ()) -> None:
    """DataError where the labels of a table are not classes: measurements, or a mixture.

    Those in `settled` are classes whatever they look like.
    """
    places = zip(*(table[name].to_pylist() for name in PLACES), strict=True)
    numbers, words = None, None
    for label, file, line in places:
        if label in settled:
            continue
        if DECIMAL.match(label):
            raise DataError(
                f"{file}, line {line}: the label {label} is a measurement, not a class; this tool "
                "classifies. Make classes of the numbers first, or, if they are names such as "
                "codes, say --label_type category."
            )
        if WHOLE_NUMBER.match(label):
            numbers = numbers or (label, file, line)
        else:
            words = words or (label, file, line)
        if numbers and words:
            raise DataError(
                f"{words[1]}, line {words[2]}: the label {words[0]!r} is a word where line "
                f"{numbers[2]} of {numbers[1]} has the number {numbers[0]}; write all labels "
                "alike, or take them as they are with --label_type category."
            )


def settle_bad_rows(bad: list[BadRow], on_bad_rows: str) -> list[str]:
    """Refuse bad rows, or say that they are left out; the notes that say so."""
    if not bad:
        return []
    shown = "; ".join(str(row) for row in bad[:SHOWN])
    more = f"; and {len(bad) - SHOWN:,} more" if len(bad) > SHOWN else ""
    count = counted(len(bad), "row")
    if on_bad_rows == "error":
        raise DataError(
            f"{count} cannot be used: {shown}{more}. Mend them, or leave them out with "
            f"--on_bad_rows skip.{advice_on(bad)}"
        )
    return [f"{count} left out: {shown}{more}{'.' * bool(advice_on(bad))}{advice_on(bad)}"]


def advice_on(bad: Sequence[BadRow]) -> str:
    """What to say of the kinds of these rows, with a space before it."""
    return "".join(
        f" {advice}"
        for beginning, advice in ADVICE.items()
        if any(row.reason.startswith(beginning) for row in bad)
    )
