"""What stands in the label columns of a data set, and the class that each value means."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import pyarrow as pa
import pyarrow.compute as pc

from textassay.console import counted
from textassay.data.cells import NUMBER, plain_label
from textassay.data.read import Rows

WHOLE_NUMBER = re.compile(r"^[+-]?\d+$")
DECIMAL = re.compile(r"^[+-]?(\d+\.\d*|\.\d+|\d+(\.\d+)?[eE][+-]?\d+)$")
LIST_OF_SEVERAL = re.compile(r"^\[.*,.*\]$|^\d+(,\d+)+$", re.DOTALL)
SEPARATORS = ",;|"
MISSING = ("nan", "null", "none", "<na>")
# Beyond this a float does not hold every whole number.
LARGEST_WHOLE = 2**53
SHOWN = 3
NO_LABEL = "has no label"
SEVERAL = "looks like several labels"


class LabelColumn(NamedTuple):
    """A file's name, its label column, and whether that holds numbers and not their spelling."""

    file: str
    values: pa.ChunkedArray
    has_numbers: bool = False

    @classmethod
    def of(cls, rows: Rows, name: str) -> Self:
        """The column `name` of `rows`; JSON and Parquet say which values are numbers."""
        return cls(rows.file, rows.columns[name], NUMBER in rows.kinds.get(name, {}))


@dataclass(frozen=True, kw_only=True)
class LabelRules:
    """How labels are read.

    `label_type`: `number` makes 1 and 1.0 one class, `category` takes all as they are written,
    `auto` decides by the column. `normalize`: labels that look alike are one class. `known`: what
    is a class exactly as it is spelt, whatever else it looks like. `meanings`: {what stands there:
    class}, of a catalog entry.
    """

    label_type: str = "auto"
    normalize: bool = False
    known: Sequence[str] = ()
    meanings: Mapping[str, str] | None = None


@dataclass
class LabelValues:
    """{what stands in a label column: its class}, and for every other value why it has none.

    `unknown`: values that are none of the `expected` classes of a catalog entry, nor mean one.
    `settled`: classes that need no further check.
    """

    classes: dict[str | None, str] = field(default_factory=dict)
    problems: dict[str | None, str] = field(default_factory=dict)
    unknown: set[str | None] = field(default_factory=set)
    expected: list[str] = field(default_factory=list)
    settled: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def read_label_values(columns: Iterable[LabelColumn], rules: LabelRules) -> LabelValues:
    """Decide what each value of the label columns means."""
    expected = list(dict.fromkeys((rules.meanings or {}).values()))
    found = LabelValues(settled=set(rules.known), expected=expected)
    rows: Counter[str | None] = Counter()
    spelt: list[tuple[str, set[str]]] = []
    for column in columns:
        counted = pc.value_counts(column.values).to_pylist()
        counts = {entry["values"]: entry["counts"] for entry in counted}
        rows.update(counts)
        if not column.has_numbers:
            spelt.append((column.file, {_text(value, rules) for value in counts} - {""}))
    by_text = {value: _text(value, rules) for value in rows}
    found.problems = {value: problem for value, text in by_text.items()
                      if (problem := _problem(text, rules))}  # fmt: skip
    usable = {value: text for value, text in by_text.items() if value not in found.problems}
    as_written = rules.label_type == "category"
    if codes := _codes(spelt, rules):
        as_written = True
        found.notes.append(codes)
    plain = {value: text if as_written else _as_number(text, rules.known)
             for value, text in usable.items()}  # fmt: skip
    if rules.label_type == "auto" and rules.meanings is None:
        for value in _several_in_one(plain, rules.known):
            found.problems[value] = f"{SEVERAL} ({plain.pop(value)[:40]}) where one is expected"
    for value, text in plain.items():
        found.classes[value] = _meaning(text, rules.meanings)
        if rules.meanings is not None and found.classes[value] not in expected:
            found.unknown.add(value)
    _settle_lookalikes(found, rows, rules)
    if as_written:
        found.settled.update(found.classes.values())
    return found


def _text(value: str | None, rules: LabelRules) -> str:
    """A value without spaces around it, and without the brackets of a list of one."""
    plain = (value or "").strip()
    return plain if plain in rules.known else (plain_label(plain) or "").strip()


def _problem(text: str, rules: LabelRules) -> str | None:
    if text in rules.known or text in (rules.meanings or {}):
        return None
    if not text:
        return NO_LABEL
    if text.lower() in MISSING:
        return f"{NO_LABEL} ({text})"
    if rules.label_type != "category" and LIST_OF_SEVERAL.match(text):
        return f"carries several labels ({text[:40]}) where one is expected"
    if rules.label_type == "number" and not (WHOLE_NUMBER.match(text) or DECIMAL.match(text)):
        return f"has a label that is no number ({text[:40]})"
    return None


def _as_number(text: str, known: Sequence[str]) -> str:
    """`1.0` as `1`, which is how spreadsheets write it; anything else stands as it is."""
    if text in known or not DECIMAL.match(text):
        return text
    number = float(text)
    return str(int(number)) if number.is_integer() and abs(number) < LARGEST_WHOLE else text


def _codes(spelt: Sequence[tuple[str, set[str]]], rules: LabelRules) -> str | None:
    """A note where one file writes a whole number in several ways, as codes are: 250 and 250.0."""
    if rules.label_type != "auto" or rules.meanings is not None:
        return None
    for file, texts in spelt:
        ways: dict[str, list[str]] = defaultdict(list)
        for text in sorted(texts - set(rules.known)):
            number = _as_number(text, rules.known)
            if DECIMAL.match(number):  # not a whole number: measurements, which are refused
                return None
            if number not in rules.known:
                ways[number].append(text)
        several = [texts for texts in ways.values() if len(texts) > 1]
        if several:
            listed = " and ".join(map(repr, several[0][:SHOWN]))
            return (
                f"{file}: the labels {listed} are one number written in several ways; they are "
                "kept apart, as codes are (--label_type number makes them one)"
            )
    return None


def _several_in_one(labels: Mapping[str | None, str], known: Sequence[str]) -> list[str | None]:
    """The values such as `toxic,insult` of which every part is a label elsewhere."""
    found = []
    for separator in SEPARATORS:
        parts = {value: {part.strip() for part in text.split(separator)}
                 for value, text in labels.items() if separator in text}  # fmt: skip
        alone = {text for value, text in labels.items() if value not in parts}
        uses = Counter(part for of in parts.values() for part in of)
        found += [value for value, of in parts.items()
                  if len(of) > 1 and labels[value] not in known
                  and all(part and (part in alone or uses[part] > 1) for part in of)]  # fmt: skip
    return list(dict.fromkeys(found))


def _meaning(text: str, meanings: Mapping[str, str] | None) -> str:
    if meanings is None or text in meanings.values():
        return text
    return meanings.get(text, text)


def lookalike_key(label: str) -> str:
    """What a label has in common with those that look alike: no case, no invisible characters."""
    folded = unicodedata.normalize("NFKC", label).casefold()
    return " ".join("".join(c for c in folded if unicodedata.category(c) != "Cf").split())


def _settle_lookalikes(found: LabelValues, rows: Counter[str | None], rules: LabelRules) -> None:
    """Make classes that look alike one, if that is wanted, or note them."""
    size: Counter[str] = Counter()
    for value, name in found.classes.items():
        size[name] += rows[value]
    alike: dict[str, set[str]] = defaultdict(set)
    for name in [*size, *(rules.known if rules.normalize else ())]:
        alike[lookalike_key(name)].add(name)
    for names in alike.values():
        if len(names) < 2:
            continue
        ordered = sorted(names, key=lambda name: (name not in rules.known, -size[name], name))
        listed = " and ".join(
            f"{name!r} ({counted(size[name], 'row')})" for name in ordered[:SHOWN]
        )
        if rules.normalize:
            one = ordered[0]
            found.classes = {value: one if name in names else name
                             for value, name in found.classes.items()}  # fmt: skip
            found.notes.append(f"labels that look alike are one class: {listed}")
        elif not names <= set(rules.known):
            found.notes.append(
                f"labels that look alike are different classes: {listed}; --normalize_labels makes "
                "them one"
            )
