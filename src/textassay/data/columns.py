"""Which column is the text and which the label; a guess is said, a doubt is an error."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from textassay.config.names import nearest
from textassay.data.cells import BYTES, LIST, OBJECT
from textassay.data.known_names import LABEL_NAMES, TEXT_NAMES
from textassay.data.read import Rows, values
from textassay.data.words import UNSPACED
from textassay.errors import DataError

SHOWN = 8
# Of so many values it shows whether a column holds texts: of so many words on average.
LOOKED_AT = 200
FREE_WORDS = 3


class MissingColumnError(DataError):
    """A file has no column of the name that was told."""


@dataclass(frozen=True)
class Columns:
    """The names of the two columns that count."""

    text: str
    label: str


def find_columns(rows: Rows, text: str | None = None, label: str | None = None) -> Columns:
    """The columns of `rows`: as told, else `text` and `label`, else one known name each.

    A text column told as several, such as `title,body`, is added to `rows` under that name. Raises
    DataError where no column or more than one could be meant, or where its values are no texts.
    """
    names = list(rows.columns)
    found = Columns(
        find_text_in(rows, text),
        _find(rows.file, names, "label", label, LABEL_NAMES),
    )
    if found.label in parts_of(names, found.text):
        raise DataError(f"{rows.file}: {found.label!r} cannot be both the text and the label.")
    # A list of several labels is a bad row, which clean.py names.
    _refuse_kinds(rows, found.label, (OBJECT, BYTES), "a label")
    return found


def find_text_in(rows: Rows, told: str | None = None) -> str:
    """The text column of `rows`, joined if it is told as several; its values must be texts."""
    names = list(rows.columns)
    column = find_text_column(rows.file, names, told)
    parts = parts_of(names, column)
    for part in parts:
        _refuse_kinds(rows, part, (LIST, OBJECT, BYTES), "a text")
    if len(parts) > 1:
        cells = zip(*(values(rows.columns[part]) for part in parts), strict=True)
        joined = pa.array(map(joined_text, cells), pa.large_string())
        rows.columns[column] = pa.chunked_array([joined])
    return column


def find_text_column(file: str, names: list[str], told: str | None = None) -> str:
    """The name of the text's column alone, by the same rules; several may be told by commas."""
    if told is not None and len(parts_of(names, told)) > 1:
        return told
    return _find(file, names, "text", told, TEXT_NAMES)


def note_columns(rows: Rows, names: Columns, told: str | None) -> list[str]:
    """Return what to say of the text's columns where they are not plain, or `told` as several."""
    if told is None:
        others = {name: values(column) for name, column in rows.columns.items()
                  if name != names.label}  # fmt: skip
        return note_unread(others, names.text)
    parts = parts_of([name for name in rows.columns if name != names.text], names.text)
    listed = " and ".join(map(repr, parts))
    return [f"the text is {listed}, joined by a space"] if len(parts) > 1 else []


def note_unread(names: Mapping[str, Iterable[str | None]], text: str) -> list[str]:
    """A note where other columns hold texts too; `names` are they, with some of their values."""
    more = [name for name, cells in names.items() if name != text and _are_texts(cells)]
    if not more:
        return []
    listed = " and ".join(map(repr, more[:SHOWN]))
    return [
        f"the text is the column {text!r} alone, and {listed} hold{'s' * (len(more) == 1)} texts "
        f"too (--text_column {','.join([text, *more])[:80]} joins them)"
    ]


def _are_texts(cells: Iterable[str | None]) -> bool:
    """Whether values are free text: mostly different, of several words or unspaced characters."""
    found = [cell for cell in islice(filter(None, cells), LOOKED_AT) if cell.strip()]
    words = sum(max(len(cell.split()), len(UNSPACED.findall(cell)) // 2) for cell in found)
    return len(set(found)) > len(found) / 2 and words >= FREE_WORDS * len(found) > 0


def parts_of(names: list[str], column: str) -> list[str]:
    """The columns that a text column consists of: itself, or those that it names by commas."""
    parts = [part.strip() for part in column.split(",")]
    return parts if column not in names and set(parts) <= set(names) else [column]


def joined_text(cells: tuple[str | None, ...]) -> str | None:
    """The text of several columns in one; None where none of them has any."""
    return " ".join(cell for cell in cells if cell and cell.strip()) or None


def _refuse_kinds(rows: Rows, column: str, kinds: tuple[str, ...], wanted: str) -> None:
    for kind, line in rows.kinds.get(column, {}).items():
        if kind in kinds:
            raise DataError(
                f"{rows.file}, line {line}: the column {column!r} holds {kind} where {wanted} is "
                f"expected; make {wanted} of it first, or name another column."
            )


def _find(file: str, names: list[str], role: str, told: str | None, known: tuple[str, ...]) -> str:
    if told is not None:
        if told not in names:
            near = nearest(told, names) if len(names) <= SHOWN else f"it has {_listed(names)}"
            raise MissingColumnError(f"{file}: has no column {told[:40]!r}; {near[:300]}")
        return told
    if role in names:
        return role
    candidates = _in_any_case(names, (role,)) or _in_any_case(names, known)
    if len(candidates) == 1:
        return candidates[0]
    flag = f"--{role}_column"
    if candidates:
        listed = " and ".join(repr(name) for name in candidates[:SHOWN])
        both = ",".join(sorted(candidates[:2], key=names.index))
        join = f" ({flag} {both} joins them)" if role == "text" else ""
        raise DataError(f"{file}: {listed} could each be the {role}; say which with {flag}{join}.")
    raise DataError(
        f"{file}: has no {role} column among {_listed(names)}; name it with {flag}, or, if the "
        "file has no header line, name its columns with --column_names text,label."
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(repr(name[:30]) for name in names[:SHOWN]) + more


def label_column_of(rows: Rows, told: str | None = None) -> str | None:
    """The column of the label by the same rules; None where there is none."""
    names = list(rows.columns)
    if told not in names if told else not _in_any_case(names, ("label", *LABEL_NAMES)):
        return None
    return _find(rows.file, names, "label", told, LABEL_NAMES)


def _in_any_case(names: list[str], wanted: tuple[str, ...]) -> list[str]:
    return [name for name in names if name.lower() in wanted]
