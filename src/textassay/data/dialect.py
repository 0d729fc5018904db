"""How a CSV or TSV is written: any delimiter, quoted or not, found out from many of its lines."""

import re
from dataclasses import replace
from itertools import chain, product
from pathlib import Path

from textassay.console import counted
from textassay.data.delimited import (
    ONE_COLUMN,
    Dialect,
    head_of,
    open_lines,
    parser,
    records,
)
from textassay.data.encoding import Encoding, find_encoding
from textassay.data.known_names import is_known
from textassay.data.options import NO_CHARACTER, ReadOptions
from textassay.data.quoting import BACKSLASH, DOUBLE, SINGLE, find_quoting
from textassay.errors import DataError

DELIMITERS = (",", "\t", ";", "|")
# Every way in which fields are enclosed: the quote character and what escapes it.
QUOTINGS = ((None, None), (DOUBLE, None), (DOUBLE, BACKSLASH), (SINGLE, None))
LINES = 2000
# A delimiter has to split so many lines like the header, unless the header's names are known.
MOST = 0.5
# Excel's own: `sep=;` as the first line.
SEPARATOR_LINE = re.compile(r'^\ufeff?"?sep=(.)"?$', re.IGNORECASE)


def find_dialect(
    path: Path, options: ReadOptions | None = None, encoding: Encoding | None = None
) -> tuple[Dialect, list[str]]:
    """Return how `path` is written, with notes on what the user may not expect.

    Raises DataError where two ways to read it give different rows and nothing in it says which.
    """
    options = options or ReadOptions()
    encoding = encoding or find_encoding(path, options.encoding)
    dialect = Dialect(
        path=path,
        encoding=encoding.name,
        delimiter=ONE_COLUMN,
        skip=options.skip_rows,
        columns=len(options.column_names) if options.column_names else None,
    )
    with open_lines(dialect) as unread:
        separator = SEPARATOR_LINE.match(next(unread, "").rstrip("\r\n"))
    if separator:
        dialect = replace(dialect, skip=dialect.skip + 1)
    lines = [line.rstrip("\r\n").replace("\r", " ") + "\n" for line in head_of(dialect, LINES)]
    delimiter = options.delimiter or (separator[1] if separator else None)
    delimiter = delimiter or find_delimiter(lines, options, path.suffix.lower() == ".tsv")
    dialect, note = find_quoting(replace(dialect, delimiter=delimiter), options)
    notes = [note for note in (encoding.note, note) if note]
    if options.column_names:
        _refuse_header(dialect, options.column_names)
    else:
        dialect, more = _unnamed_columns(dialect)
        notes += more
    return dialect, notes


def _refuse_header(dialect: Dialect, names: list[str]) -> None:
    """DataError where the first line says the names that are given: it would become a row."""
    first = next(records(dialect), None)
    if first and [value.strip().lower() for value in first.fields] == list(map(str.lower, names)):
        raise DataError(
            f"{dialect.path}, line {first.line}: is a header line of the names in --column_names, "
            "and would be read as a row; leave out --column_names."
        )


def find_delimiter(lines: list[str], options: ReadOptions, is_tsv: bool = False) -> str:
    """Return the delimiter that splits most of `lines` into as many fields as there are columns.

    Their number is that of the header, or of the column names that are given. ONE_COLUMN where the
    header has one column only, or where nothing splits most lines like the header.
    """
    names = options.column_names
    if not lines or (names and len(names) == 1):
        return ONE_COLUMN
    if is_tsv and "\t" in lines[0] and not names:
        return "\t"
    best, best_rank = ONE_COLUMN, (False, 0.0 if names else MOST, 0, 0)
    for delimiter in DELIMITERS:
        for quotechar, escapechar in _quotings(options):
            rank = _fit(lines, delimiter, quotechar, escapechar, names)
            if rank > best_rank:
                best, best_rank = delimiter, rank
    if names and best == ONE_COLUMN:  # nothing fits: the rows that do not are named
        outside = "".join(lines[0].split('"')[::2])
        return max(DELIMITERS, key=lambda d: (outside.count(d), -DELIMITERS.index(d)))
    return best


def _quotings(options: ReadOptions) -> list[tuple[str | None, str | None]]:
    if options.quotechar is None and options.escapechar is None:
        return list(QUOTINGS)
    quotes = _named(options.quotechar) or [None, DOUBLE, SINGLE]
    escapes = _named(options.escapechar) or [None, BACKSLASH]
    return list(product(quotes, escapes))


def _named(character: str | None) -> list[str | None]:
    return [] if character is None else [None if character == NO_CHARACTER else character]


def _fit(
    lines: list[str],
    delimiter: str,
    quotechar: str | None,
    escapechar: str | None,
    names: list[str] | None,
) -> tuple[bool, float, int, int]:
    """Return how well a delimiter fits, the most important first.

    Whether it gives known names, which share of the lines it splits into as many fields as there
    are columns, how few values (labels) a column has, negative, and how many columns there are.
    """
    dialect = Dialect(
        path=Path(), encoding="", delimiter=delimiter, quotechar=quotechar, escapechar=escapechar
    )
    reader = parser(lines, dialect, strict=False)
    header: list[str] = next(reader, [])
    width = len(names) if names else len(header)
    if width < 2:
        return False, 0.0, 0, 0
    # A row that swallows others is one row on many lines.
    fitting, before = 0, 0 if names else reader.line_num
    values: list[set[str]] = [set() for _ in range(width)]
    for row in chain([header] if names else [], reader):
        if len(row) == width or (len(row) > width and not any(row[width:])):
            fitting += reader.line_num - before
            for seen, value in zip(values, row, strict=False):
                seen.add(value)
        before = reader.line_num
    total = len(lines) - (not names)
    share = fitting / total if total else 1.0
    return not names and any(map(is_known, header)), share, -min(map(len, values)), width


def _unnamed_columns(dialect: Dialect) -> tuple[Dialect, list[str]]:
    """Leave out the columns without a name and without a value; name the others."""
    found = records(dialect)
    header = next(found, None)
    unnamed = [at for at, name in enumerate(header.fields) if not name.strip()] if header else []
    if not unnamed or header is None or len(unnamed) == len(header.fields):
        return dialect, []
    filled: dict[int, int] = {}
    rows = 0
    for record in found:
        used = [at for at in unnamed if at < len(record.fields) and record.fields[at].strip()]
        rows += bool(used)
        for at in used:
            filled.setdefault(at, record.line)
    unused = frozenset(unnamed) - set(filled)
    notes = []
    if unused:
        notes.append(f"{counted(len(unused), 'column')} without a name and without a value ignored")
    if filled and unnamed != [0]:  # the first is the index of a data frame
        notes.append(
            f"{rows:,} row{'s have' if rows > 1 else ' has'} something in a column without a name "
            f"(first on line {min(filled.values())}); it is kept as {unnamed_name(min(filled))!r}"
        )
    return replace(dialect, unused=unused), notes


def unnamed_name(position: int) -> str:
    """Return what pandas calls a column without a name."""
    return f"Unnamed: {position}"
