"""Whether quote characters enclose fields in a CSV or TSV, or belong to its texts.

A reader with quoting swallows rows of a file without it: from a text that begins with a quote to
the next quote, lines become one field, without an error. A reader without quoting tears quoted
fields apart. So the file is read both ways, and where both fit, that one counts whose rows look
alike.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from textassay.console import counted
from textassay.data.delimited import Dialect, Record, open_lines, records
from textassay.data.options import NO_CHARACTER, ReadOptions
from textassay.errors import DataError

DOUBLE, SINGLE, BACKSLASH = '"', "'", "\\"
# In so many rows it shows which column holds labels: the one whose values repeat.
FEWEST_ROWS = 4
SEEN = 1000
# The last line of a text with line ends may look like a row; so many lines of it do not.
SEVERAL = 2
ENOUGH = 20_000
WITH_BACKSLASHES = 'read with \\" as a quote inside a field'
WITH_SINGLE_QUOTES = "read with ' as the quote character"
WITHOUT = "read without quoting: its quote characters belong to the texts"


@dataclass(frozen=True)
class Reading:
    """One way to read a file: whether every row fits, the rows that take several lines, and the
    error of a quote that never closes.
    """

    dialect: Dialect
    fits: bool
    spans: list[tuple[int, int]] = field(default_factory=list)
    error: DataError | None = None


def find_quoting(plain: Dialect, options: ReadOptions) -> tuple[Dialect, str | None]:
    """Return `plain` with its quote and escape characters, and a note where that is not expected.

    Raises DataError where rows differ by the reading and nothing in the file says which is right.
    """
    escape = None if options.escapechar == NO_CHARACTER else options.escapechar
    if options.quotechar is not None:
        quotechar = None if options.quotechar == NO_CHARACTER else options.quotechar
        fixed = replace(plain, quotechar=quotechar, escapechar=escape)
        if quotechar and options.escapechar is None and not _read(fixed).fits:
            escaped = replace(fixed, escapechar=BACKSLASH)
            return (escaped if _read(escaped).fits else fixed), None
        return fixed, None
    if escape:
        return replace(plain, quotechar=DOUBLE, escapechar=escape), None
    return _find_quoting(plain, options.escapechar is None)


def _find_quoting(plain: Dialect, may_escape: bool) -> tuple[Dialect, str | None]:
    has_double, has_single = _holds(plain, DOUBLE), _holds(plain, SINGLE)
    if not has_double and not has_single:
        return plain, None
    without = _read(plain)
    decided: tuple[Dialect, str | None] = (plain, None)
    if has_double:
        within = _read(replace(plain, quotechar=DOUBLE))
        if may_escape and not within.fits and (escaped := _escaped(plain, without)):
            return escaped, WITH_BACKSLASHES
        decided = _double_quoting(without, within)
        if without.fits or within.fits:
            return decided
    if has_single:
        single = replace(plain, quotechar=SINGLE)
        if _all_enclosed(plain, SINGLE) or (not without.fits and _read(single).fits):
            return single, WITH_SINGLE_QUOTES
    if without.fits:
        return decided
    others = []
    if has_double and may_escape:
        others.append((replace(plain, quotechar=DOUBLE, escapechar=BACKSLASH), WITH_BACKSLASHES))
    if has_single:
        others.append((replace(plain, quotechar=SINGLE), WITH_SINGLE_QUOTES))
    return _far_better(decided, others)


def _far_better(
    decided: tuple[Dialect, str | None], others: Sequence[tuple[Dialect, str | None]]
) -> tuple[Dialect, str | None]:
    """Return the reading with the fewest bad rows where none fits; another only if it halves them.

    A few broken rows must not hide how all the others are written.
    """
    fewest = _bad_rows(decided[0])
    for other in others:
        if (bad := _bad_rows(other[0])) < fewest / 2:
            decided, fewest = other, bad
    return decided


def _bad_rows(dialect: Dialect) -> float:
    try:
        return sum(record.problem is not None for record in records(dialect))
    except DataError:  # a quote that never closes
        return math.inf


def _double_quoting(without: Reading, within: Reading) -> tuple[Dialect, str | None]:
    plain, quoted = without.dialect, within.dialect
    if plain.delimiter == "\t":
        if _all_enclosed(plain, DOUBLE, some=True):
            return quoted, None
        if without.fits or not within.fits:
            return plain, WITHOUT
    if within.error and without.fits:
        return plain, WITHOUT
    if without.fits and not within.fits:
        return plain, WITHOUT
    inside = _rows_inside(plain, within.spans)
    if without.fits:
        disputed = {span: rows for span, rows in inside.items() if len(rows) == _length(span)}
        return _decide(plain, quoted, disputed) if disputed else (quoted, None)
    if not inside:
        return quoted, None
    others = _undisputed(quoted, within.spans)
    suspects = {
        span[0]
        for span, rows in inside.items()
        if sum(others.hold([row]) for row in rows) >= SEVERAL
    }
    return replace(quoted, suspects=frozenset(suspects)), None


def _length(span: tuple[int, int]) -> int:
    return span[1] - span[0] + 1


def _decide(
    plain: Dialect, quoted: Dialect, disputed: dict[tuple[int, int], list[Record]]
) -> tuple[Dialect, str | None]:
    """Choose between two readings that both fit, by the rows that they do not share."""
    rows = _undisputed(plain, list(disputed))
    alike = [rows.hold(lines) for lines in disputed.values()]
    broken = [rows.break_(lines) for lines in disputed.values()]
    count = sum(map(len, disputed.values()))
    first, last = next(iter(disputed))
    if all(alike) and not rows.doubled:
        return plain, f"{WITHOUT} (lines {first} to {last} read as rows like the others)"
    if not any(alike) and (any(broken) or (rows.doubled and not rows.loose)):
        return quoted, None
    if not any(alike) and rows.loose and not rows.doubled:
        return plain, WITHOUT
    raise DataError(
        f"{plain.path}, lines {first} to {last}: are one row if quotes enclose fields, and "
        f"{counted(last - first + 1, 'row')} if they belong to the texts; the file does not show "
        f"which (in doubt: {counted(count, 'line')}). Say --quotechar '\"' or --quotechar none."
    )


@dataclass
class _Rows:
    """What the rows look like that both readings share.

    `values`: what stands in each column, None once it is too much to be labels; `loose`: rows with
    a quote inside a field that no quote encloses, which no CSV writer leaves so; `doubled`: rows
    with a doubled quote inside an enclosed field, which nobody writes by hand.
    """

    count: int = 0
    values: dict[int, Counter[str] | None] = field(default_factory=dict)
    empty: set[int] = field(default_factory=set)
    spaced: set[int] = field(default_factory=set)
    loose: int = 0
    doubled: int = 0

    def add(self, fields: list[str]) -> None:
        self.count += 1
        for at, raw in enumerate(fields):
            enclosed = len(raw) > 1 and raw[0] == raw[-1] == DOUBLE
            comma = len(fields) == 1 and "," in raw  # in one column: a CSV writer encloses it
            self.loose += not enclosed and (comma or (DOUBLE in raw and raw[0] != DOUBLE))
            self.doubled += enclosed and (comma or DOUBLE * 2 in raw[1:-1])
            value = raw.strip(DOUBLE)
            if not value:
                self.empty.add(at)
            if value.startswith(" "):
                self.spaced.add(at)
            seen = self.values.setdefault(at, Counter())
            if seen is not None:
                seen[value] += 1
                if len(seen) > SEEN:
                    self.values[at] = None

    def _labels(self) -> dict[int, Counter[str]]:
        """The columns whose values repeat."""
        few = max(2, self.count // 4) if self.count >= FEWEST_ROWS else 0
        return {at: seen for at, seen in self.values.items() if seen and len(seen) <= few}

    def break_(self, lines: list[Record]) -> bool:
        """Return True if lines are no rows like these: an empty field, a space or a label that no
        other row has in this column.
        """
        labels = self._labels()
        for at, value in _cells(lines):
            if (not value and at not in self.empty) or (
                value.startswith(" ") and at not in self.spaced
            ):
                return True
            if at in labels and value not in labels[at]:
                return True
        return False

    def hold(self, lines: list[Record]) -> bool:
        """Return True if all lines are rows like these, with labels that other rows have."""
        return bool(self._labels()) and not self.break_(lines)


def _cells(lines: list[Record]) -> Iterator[tuple[int, str]]:
    for record in lines:
        for at, raw in enumerate(record.fields):
            yield at, raw.strip(DOUBLE)


def _undisputed(dialect: Dialect, spans: list[tuple[int, int]]) -> _Rows:
    """Survey the rows on one line that fit, outside of `spans` and below the header."""
    rows = _Rows()
    inside = {line for start, end in spans for line in range(start, end + 1)}
    for number, record in enumerate(records(dialect)):
        if number and record.problem is None and record.line not in inside:
            rows.add(record.fields)
            if rows.count == ENOUGH:
                break
    return rows


def _rows_inside(
    plain: Dialect, spans: list[tuple[int, int]]
) -> dict[tuple[int, int], list[Record]]:
    """Return the lines of every span that are whole rows without quoting, where any are."""
    found: dict[tuple[int, int], list[Record]] = {}
    waiting = iter(spans)
    span = next(waiting, None)
    if span is None:
        return found
    for record in records(plain):
        while span and record.line > span[1]:
            span = next(waiting, None)
        if span is None:
            break
        if record.line >= span[0] and record.problem is None:
            found.setdefault(span, []).append(record)
    return found


def _escaped(plain: Dialect, without: Reading) -> Dialect | None:
    """The reading with backslashes before quotes, where it fits and swallows no rows."""
    if not _holds(plain, BACKSLASH + DOUBLE):
        return None
    escaped = _read(replace(plain, quotechar=DOUBLE, escapechar=BACKSLASH))
    return escaped.dialect if escaped.fits and not (without.fits and escaped.spans) else None


def _read(dialect: Dialect) -> Reading:
    fits, spans = True, []
    try:
        for record in records(dialect):
            fits = fits and record.problem is None
            if not fits and dialect.quotechar is None:
                break
            if record.end > record.line:
                spans.append((record.line, record.end))
    except DataError as error:
        return Reading(dialect, False, spans, error)
    return Reading(dialect, fits, spans)


def _holds(plain: Dialect, characters: str) -> bool:
    with open_lines(plain) as lines:
        return any(characters in line for line in lines)


def _all_enclosed(plain: Dialect, quote: str, some: bool = False) -> bool:
    """Return True if every field that begins with a quote ends with one, its inner quotes doubled.

    `some`: in any of the rows; else every row must have one.
    """
    seen = False
    for record in records(plain):
        enclosed = [value for value in record.fields if value.startswith(quote)]
        if not enclosed and not some:
            return False
        for value in enclosed:
            inner = value[1:-1]
            if len(value) < 2 or not value.endswith(quote) or quote in inner.replace(quote * 2, ""):
                return False
        seen = seen or bool(enclosed)
    return seen
