"""The rows of a CSV or TSV once it is known how it is written (`dialect.py` finds that out)."""

import csv
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from textassay.console import counted
from textassay.errors import DataError

# What separates the columns of a file that has only one: a character that no text holds.
ONE_COLUMN = "\x1f"
# No text for a classifier is this long; a field that is comes from a quote that never closes.
LONGEST_FIELD = 1_000_000

csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How one file is written.

    `skip`: lines above the header; `quotechar`: None where quotes belong to the texts; `suspects`:
    lines on which a quoted field opens that holds what looks like other rows; `unused`: positions
    of columns without a name and without a value; `columns`: how many there are, where the user
    names them, else as many as the first line has.
    """

    path: Path
    encoding: str
    delimiter: str
    quotechar: str | None = None
    escapechar: str | None = None
    skip: int = 0
    columns: int | None = None
    suspects: frozenset[int] = frozenset()
    unused: frozenset[int] = frozenset()


class Record(NamedTuple):
    """One row: the line it starts on, its fields, what is wrong with it, the line it ends on."""

    line: int
    fields: list[str]
    problem: str | None = None
    end: int = 0


def records(dialect: Dialect) -> Iterator[Record]:
    """Yield every row of the file, the header included; blank lines are no rows."""
    width = dialect.columns
    is_parsed = dialect.quotechar or dialect.escapechar
    for record in _parsed_rows(dialect) if is_parsed else _split_rows(dialect):
        width = width or len(record.fields)
        yield _checked(record, width, dialect)


def _checked(record: Record, width: int, dialect: Dialect) -> Record:
    problem = record.problem
    fields = record.fields if len(record.fields) <= width else _trimmed(record.fields, width)
    if problem is None and record.line in dialect.suspects:
        problem = (
            f"opens a quote that closes on line {record.end}, and the lines between read as rows; "
            "close or double the quote"
        )
    if problem is None and len(fields) != width:
        expected = (
            f"for {counted(width, 'column')}"
            if dialect.columns
            else f"where the first line has {width}"
        )
        problem = f"has {len(fields)} fields {expected}"
    if problem is None:
        problem = _problem_in(fields)
    if problem is None and fields is record.fields:
        return record
    return Record(record.line, fields, problem, record.end)


def problem_of_length(text: str) -> str | None:
    """What is wrong with a text that is longer than any text for a classifier."""
    if len(text) <= LONGEST_FIELD:
        return None
    return f"has a text of {counted(len(text), 'character')}, more than {LONGEST_FIELD:,}"


def _problem_in(fields: list[str]) -> str | None:
    for value in fields:
        if "\0" in value:
            return "holds NUL bytes"
        if len(value) > LONGEST_FIELD:
            return f"has a field of {len(value):,} characters (is a quote left open before it?)"
    return None


def _trimmed(fields: list[str], width: int) -> list[str]:
    """Return the fields without empty ones behind the last column, which spreadsheets write."""
    return fields if any(field.strip() for field in fields[width:]) else fields[:width]


class Lines:
    """The lines of an open file below the first `skip`, and the number of the last one read.

    Only the file's own line end counts: a carriage return inside a text does not.
    """

    def __init__(self, stream: Iterable[str], end: str, skip: int):
        self.end, self.number = end, 0
        self.stream = iter(stream)
        while self.number < skip and next(self, None) is not None:
            pass

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        line = next(self.stream)
        self.number += line.endswith(self.end)
        return line


@contextmanager
def open_lines(dialect: Dialect, split_everywhere: bool = False) -> Iterator[Lines]:
    """Open a file to read its lines. `split_everywhere`: at bare carriage returns too, for csv."""
    end = _line_end(dialect.path, dialect.encoding)
    newline = "" if split_everywhere else end
    with dialect.path.open(encoding=dialect.encoding, newline=newline) as stream:
        yield Lines(stream, end, dialect.skip)


def _line_end(path: Path, encoding: str) -> str:
    """Return the line end to split at: a bare carriage return only in files with nothing else."""
    with path.open(encoding=encoding, newline="") as stream:
        head = stream.read(1 << 16)
    return "\r" if "\r" in head and "\n" not in head else "\n"


def head_of(dialect: Dialect, lines: int) -> list[str]:
    """Return the first lines below those that are skipped, blank ones left out."""
    with open_lines(dialect) as stream:
        return list(islice((line for line in stream if line.strip()), lines))


def _split_rows(dialect: Dialect) -> Iterator[Record]:
    with open_lines(dialect) as lines:
        for number, line in enumerate(lines, start=lines.number + 1):
            stripped = line.rstrip("\r\n")
            if stripped:
                yield Record(number, stripped.split(dialect.delimiter), None, number)


def parser(lines: Iterable[str], dialect: Dialect, strict: bool) -> Any:
    """Return the csv module's reader. A backslash escapes quote, delimiter and itself only: in
    `C:\\new` it is a letter like any other.
    """
    escape = dialect.escapechar
    if escape:
        escaped = {dialect.quotechar, dialect.delimiter, escape}
        pair = re.compile(re.escape(escape) + "(.?)")
        lines = (pair.sub(lambda m: m[0] if m[1] in escaped else escape + m[0], line)
                 for line in lines)  # fmt: skip
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if dialect.quotechar else csv.QUOTE_NONE
    return csv.reader(
        lines, delimiter=dialect.delimiter, quotechar=dialect.quotechar or '"', quoting=quoting,
        escapechar=escape, strict=strict,
    )  # fmt: skip


def _parsed_rows(dialect: Dialect) -> Iterator[Record]:
    with open_lines(dialect, split_everywhere=True) as lines:
        reader = parser(lines, dialect, strict=True)
        while True:
            start = lines.number + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end" in str(error):
                    raise DataError(
                        f"{dialect.path}, line {start}: a quote is opened here and never closed, "
                        "so the rest of the file would become one field; close or double it, or "
                        "say --quotechar none if quotes belong to the texts."
                    ) from None
                problem = f"is not well-formed CSV ({error})"
                for line in range(start, max(start, lines.number) + 1):
                    yield Record(line, [], problem, line)
                continue
            if fields:
                yield Record(start, fields, None, max(start, lines.number))


def batches(found: Iterable[Record], size: int = 50_000) -> Iterator[list[Record]]:
    """Yield records in lists of `size`, so that a large file never stands in memory as Python
    lists.
    """
    batch: list[Record] = []
    for record in found:
        batch.append(record)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
