"""A mended copy of a file: texts repaired, useless rows left out, all of it counted and said.

`clean.py` says which rows a run can use; this module mends the file before any run.
"""

import html
import html.entities
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import pyarrow as pa

from textassay.data.clean import advice_on, usable_rows
from textassay.data.columns import Columns, parts_of
from textassay.data.encoding import shown
from textassay.data.label_values import LabelColumn, LabelRules, read_label_values
from textassay.data.read import Rows, values
from textassay.errors import DataError, UsageError

# Only what ends in a semicolon: html.unescape alone would read `?a=1&copy=2` as `?a=1©=2`.
ENTITY = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
AMPERSAND = re.compile(r"&(?:(?:amp|AMP|#0{0,5}38|#[xX]0{0,4}26);)+")
# The joiners U+200C and U+200D stay: emoji, Persian and Indian scripts are written with them.
INVISIBLE = re.compile("[\ufeff\u200b\u2060\u00ad]")
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x9f]")
# A short bracketed run without spaces, with a letter other than A to Z: not [NAME], [SEP] or [1].
EMOTICON = re.compile(r"\[(?=[^\[\]\s]*[^\W\dA-Z_])[^\[\]\s]{1,8}\]")
# A repair can bring another to light; no honest text needs more than three rounds.
ROUNDS = 20


class Choices(NamedTuple):
    """What the user decides."""

    # Which label is right is not known here.
    conflicts: str = "keep"
    keep_duplicates: bool = False
    mask_emoticons: bool = False
    labels: LabelRules = LabelRules()


# What is the matter with a row: the kind, the reason in its case, whether it is left out.
Finding = tuple[str | None, str | None, bool]


class Touched(NamedTuple):
    """A row that was repaired, left out, or kept in spite of what was found.

    `before` and `after` hold its text and label; None for a row that could not be read.
    """

    file: str
    line: int
    repaired: tuple[str, ...]
    found: str | None
    why: str | None
    left_out: bool
    before: dict[str, str | None] | None = None
    after: dict[str, str | None] | None = None


@dataclass
class Tidied:
    """What becomes of `rows`: the positions that stay, and all columns as they are to be read back.

    `mended`: the text and the label column, if a cell of it changed; `usable`: how many rows have a
    text and a label, by label; `notes`: what was found among the labels.
    """

    rows: Rows
    names: Columns
    mended: list[str]
    kept: pa.Array
    columns: dict[str, pa.ChunkedArray]
    touched: list[Touched]
    usable: Counter[str]
    notes: list[str]


def refuse_doubtful_letters(rows: Rows) -> None:
    """DataError where another code page would read other letters, which the copy would keep."""
    encoding = rows.encoding
    if encoding and encoding.doubt:
        raise DataError(
            f"{rows.file}: is not UTF-8, and its letters depend on the code page: read as "
            f"{shown(encoding.name)}, {encoding.doubt}. Say which with --encoding, such as "
            f"--encoding {encoding.name}."
        )


def refuse_joined(names: Columns, rows: Rows) -> None:
    """UsageError where the text is several columns: a copy has the columns of its file."""
    parts = parts_of([name for name in rows.columns if name != names.text], names.text)
    if len(parts) > 1:
        raise UsageError(
            f"--text_column {names.text}: names several columns, and one is mended at a time; name "
            f"one, such as {parts[0]}."
        )


def tidy(rows: Rows, names: Columns, choices: Choices) -> Tidied:
    """Repair every text, then leave out rows that no run can use, contradictions and duplicates.

    Raises DataError if no row would be left.
    """
    texts, written = (values(rows.columns[name]) for name in (names.text, names.label))
    mended = [repair(text or "", choices.mask_emoticons) for text in texts]
    columns = rows.columns | {
        names.text: _column(text for text, _ in mended),
        names.label: _column(label and repair(label)[0] for label in written),
    }
    repaired = replace(rows, columns=columns, bad=[])
    meant = read_label_values([LabelColumn.of(repaired, names.label)], choices.labels)
    usable = usable_rows(repaired, names, meant)
    labels = dict(zip(values(usable.table["line"]), values(usable.table["label"]), strict=True))
    cells = zip(values(rows.lines), values(columns[names.label]), strict=True)
    columns[names.label] = _column(labels.get(line, label) for line, label in cells)
    findings: dict[int, Finding] = {
        row.line: (row.reason.partition(" (")[0], row.reason, True) for row in usable.bad
    }
    findings |= _findings(labels, list(values(usable.table["text"])), choices)
    touched = _touched(rows, names, columns, [done for _, done in mended], findings)
    gone = {row.line for row in touched if row.left_out}
    kept = [at for at, line in enumerate(values(rows.lines)) if line not in gone]
    if not kept:
        why = f"line {touched[0].line} {touched[0].why}"
        raise DataError(f"{rows.file}: no row would be left ({why}); mend the file first.")
    stay = pa.array(kept)
    columns = {name: column.take(stay) for name, column in columns.items()}
    changed = [name for name in (names.text, names.label)
               if not columns[name].equals(rows.columns[name].take(stay))]  # fmt: skip
    sizes = Counter(labels.values())
    notes = meant.notes + [advice for advice in [advice_on(usable.bad).strip()] if advice]
    return Tidied(rows, names, changed, stay, columns, touched, sizes, notes)


def _column(cells: Iterable[str | None]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(cells, pa.large_string())])


def _touched(
    rows: Rows,
    names: Columns,
    columns: dict[str, pa.ChunkedArray],
    repairs: list[tuple[str, ...]],
    findings: dict[int, Finding],
) -> list[Touched]:
    """All rows with something to say of them, by line; `columns` are those after the repairs."""
    touched = [Touched(rows.file, row.line, (), "cannot be read", row.reason, True)
               for row in rows.bad]  # fmt: skip
    both = [(of[names.text], of[names.label]) for of in (rows.columns, columns)]
    cells = zip(values(rows.lines), repairs, *map(values, chain(*both)), strict=True)
    for line, done, text, label, new_text, new_label in cells:
        if new_label != label:
            done = (*done, "labels")
        if done or line in findings:
            finding = findings.get(line, (None, None, False))
            before, after = {"text": text, "label": label}, {"text": new_text, "label": new_label}
            touched.append(Touched(rows.file, line, done, *finding, before, after))
    return sorted(touched, key=lambda row: row.line)


def _findings(labels: dict[int, str], texts: list[str], choices: Choices) -> dict[int, Finding]:
    """{line: finding} for contradictions and duplicates among the repaired `texts`.

    Only what is written alike is the same text: `C++` is not `C#`, nor `fine 😀` `fine 😡`.
    Contradictions come first, so that every duplicate has its vote.
    """
    pairs = list(zip(labels.values(), texts, strict=True))
    one: dict[str, str] = {}
    several = {text for label, text in pairs if one.setdefault(text, label) != label}
    votes: dict[str, Counter[str]] = {text: Counter() for text in several}
    for label, text in pairs:
        if text in several:
            votes[text][label] += 1
    first: dict[tuple[str, str], int] = {}
    found: dict[int, Finding] = {}
    for line, (label, text) in zip(labels, pairs, strict=True):
        if text in several:
            found |= _judged(line, label, votes[text], choices.conflicts)
        original = first.setdefault((label, text), line)
        repeated = original != line and not choices.keep_duplicates
        if repeated and not (line in found and found[line][2]):
            found[line] = ("duplicate", f"has the text and label of line {original}", True)
    return found


def _judged(line: int, label: str, votes: Counter[str], conflicts: str) -> dict[int, Finding]:
    """{line: finding}, or nothing where the majority has the same label."""
    (most, top), (_, second), *_ = votes.most_common()
    tie = conflicts == "majority" and top == second
    if conflicts == "majority" and label == most and not tie:
        return {}
    listed = ", ".join(f"{name} ({rows:,})" for name, rows in sorted(votes.items()))
    why = f"has a text with the labels {listed}" + ", a tie" * tie
    return {line: ("contradictory labels", why, conflicts != "keep")}


def repair(text: str, mask_emoticons: bool = False) -> tuple[str, tuple[str, ...]]:
    """A text without HTML entities, invisible and control characters and needless white space.

    Also gives the names of the repairs. A text nested so deeply that it does not come to rest stays
    as it is.
    """
    steps = {
        "HTML entities": lambda text: ENTITY.sub(_character, AMPERSAND.sub("&", text)),
        "invisible characters": lambda text: INVISIBLE.sub("", text),
        "control characters": lambda text: CONTROL.sub(_meant, text),
        "white space": lambda text: " ".join(text.split()),
    }
    if mask_emoticons:  # a space, so that the words on both sides stay two
        steps["emoticons"] = lambda text: " ".join(EMOTICON.sub(" ", text).split())
    done: dict[str, None] = {}
    mended = text
    for _ in range(ROUNDS):
        start = mended
        for name, step in steps.items():
            before, mended = mended, step(mended)
            if mended != before:
                done[name] = None
        if mended == start:
            return mended, tuple(done)
    return text, ()


def _character(found: re.Match[str]) -> str:
    known = found[1].startswith("#") or found[1] + ";" in html.entities.html5
    return html.unescape(found[0]) if known else found[0]


def _meant(found: re.Match[str]) -> str:
    """What Windows-1252 means by a control character: U+0092 is a curly apostrophe."""
    code = ord(found[0])
    return bytes([code]).decode("cp1252", "ignore") if code > 0x7F else ""
