"""CSV and TSV as they are met: any delimiter, quoted or not, to the last row.

A reader with quoting switched on swallows rows of an unquoted file without an error, and one with
quoting switched off tears quoted fields apart. So the file decides: see `find_quoting`.
"""

import csv
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from textassay.data.encoding import find_encoding
from textassay.errors import DataError

DELIMITERS = (",", "\t", ";", "|")
# No text for a classifier is this long; a field that is comes from a quote that never closes.
LONGEST_FIELD = 1_000_000

csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True)
class Dialect:
    """How one file is written."""

    path: Path
    encoding: str
    delimiter: str
    quoted: bool


@dataclass(frozen=True)
class Record:
    """One row: the line it starts on, its fields, and what is wrong with it, if anything."""

    line: int
    fields: list[str]
    problem: str | None = None


def find_dialect(path: Path) -> tuple[Dialect, list[str]]:
    """How `path` is written, with notes on what the user may not expect."""
    encoding, note = find_encoding(path)
    notes = [note] if note else []
    delimiter = find_delimiter(path, encoding)
    quoted = find_quoting(path, encoding, delimiter)
    if not quoted and _has_quotes(path, encoding):
        notes.append("read without quoting: its quote characters belong to the texts")
    return Dialect(path, encoding, delimiter, quoted), notes


def find_delimiter(path: Path, encoding: str) -> str:
    """The delimiter that splits the first line most often; a tab where the name says TSV."""
    with path.open(encoding=encoding, newline=_line_end(path, encoding)) as stream:
        first = next((line for line in stream if line.strip()), "")
    outside = "".join(first.split('"')[::2])
    if path.suffix.lower() == ".tsv" and "\t" in first:
        return "\t"
    return max(DELIMITERS, key=lambda d: (outside.count(d), -DELIMITERS.index(d)))


def find_quoting(path: Path, encoding: str, delimiter: str) -> bool:
    """Whether quote characters enclose fields in this file.

    Comma and semicolon files are quoted if a strict reader finds the same number of fields in every
    row. Tab files are unquoted if every line splits into the same number of fields, except where
    every field that begins with a quote also ends with one.
    """
    if not _has_quotes(path, encoding):
        return False
    quoted = Dialect(path, encoding, delimiter, True)
    plain = Dialect(path, encoding, delimiter, False)
    if delimiter == "\t":
        if _lines_are_quoted(plain):
            return True
        return not _consistent(plain) and _consistent(quoted)
    return _consistent(quoted) or not _consistent(plain)


def records(dialect: Dialect) -> Iterator[Record]:
    """Every row of the file, the header included; blank lines are no rows."""
    width: int | None = None
    for record in _quoted_rows(dialect) if dialect.quoted else _plain_rows(dialect):
        width = width or len(record.fields)
        yield _checked(record, width)


def _checked(record: Record, width: int) -> Record:
    problem = record.problem
    if problem is None and len(record.fields) != width:
        problem = f"has {len(record.fields)} fields where the first line has {width}"
    if problem is None and any("\0" in field for field in record.fields):
        problem = "holds NUL bytes"
    longest = max(map(len, record.fields), default=0)
    if problem is None and longest > LONGEST_FIELD:
        problem = f"has a field of {longest:,} characters (is a quote left open before it?)"
    return Record(record.line, record.fields, problem)


def _plain_rows(dialect: Dialect) -> Iterator[Record]:
    end = _line_end(dialect.path, dialect.encoding)
    with dialect.path.open(encoding=dialect.encoding, newline=end) as stream:
        for number, line in enumerate(stream, start=1):
            stripped = line.rstrip("\r\n")
            if stripped:
                yield Record(number, stripped.split(dialect.delimiter))


def _quoted_rows(dialect: Dialect) -> Iterator[Record]:
    with dialect.path.open(encoding=dialect.encoding, newline="") as stream:
        reader = csv.reader(stream, delimiter=dialect.delimiter, strict=True)
        while True:
            start = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end" in str(error):
                    raise DataError(
                        f"{dialect.path}, line {start}: a quote is opened here and never closed, "
                        "so the rest of the file would become one field; close or double it."
                    ) from None
                problem = f"is not well-formed CSV ({error})"
                for line in range(start, reader.line_num + 1):
                    yield Record(line, [], problem)
                continue
            if fields:
                yield Record(start, fields)


def _consistent(dialect: Dialect) -> bool:
    try:
        return all(record.problem is None for record in records(dialect))
    except DataError:
        return False


def _lines_are_quoted(plain: Dialect) -> bool:
    """Whether every field that begins with a quote ends with one, its inner quotes doubled."""
    seen = False
    for record in _plain_rows(plain):
        for field in record.fields:
            if not field.startswith('"'):
                continue
            inner = field[1:-1]
            if len(field) < 2 or not field.endswith('"') or '"' in inner.replace('""', ""):
                return False
            seen = True
    return seen


def _has_quotes(path: Path, encoding: str) -> bool:
    with path.open(encoding=encoding, newline=_line_end(path, encoding)) as stream:
        return any('"' in line for line in stream)


def _line_end(path: Path, encoding: str) -> str:
    """The line end to split at: a bare carriage return only in files that have nothing else."""
    with path.open(encoding=encoding, newline="") as stream:
        head = stream.read(1 << 16)
    return "\r" if "\r" in head and "\n" not in head else "\n"


def batches(found: Iterable[Record], size: int = 50_000) -> Iterator[list[Record]]:
    """Records in lists of `size`, so that a large file never stands in memory as Python lists."""
    batch: list[Record] = []
    for record in found:
        batch.append(record)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
