"""One value of JSON or Arrow as the text that stands for it, and values that no text stands for."""

import ast
import json
import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pyarrow as pa

# Empty, or a quoted text or a number in brackets; `[smile]` is a label like any other.
LIST_OF_ONE = re.compile(r"^\s*\[\s*(\".*\"|'.*'|[+-]?[\d.]+)?\s*,?\s*\]\s*$", re.DOTALL)
# What programs write where there is no text. People who mean a word write `none`.
MISSING = frozenset(("NaN", "nan", "None", "NULL", "null", "<NA>"))
LIST, OBJECT, BYTES = "a list", "an object", "bytes that are not UTF-8 text"
NUMBER = "a number"


def text_of_value(value: Any) -> str | None:
    """Return a value as it would stand in a CSV; None where there is none.

    NaN, an empty list and bytes that are not UTF-8 are no text. A list with one element counts as
    that element; longer lists and objects are JSON (see `kind_of_value`).
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode("utf-8")
        except UnicodeDecodeError:
            return None
    if isinstance(value, list | tuple):
        if len(value) < 2:
            return text_of_value(value[0]) if value else None
        return json.dumps(value, ensure_ascii=False, default=json_value)
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        return None
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bool | int | float | dict):
        return json.dumps(value, ensure_ascii=False, default=json_value)
    return str(value)  # dates and times


def is_missing(text: str | None) -> bool:
    """Return True where a text is none: absent, blank, or what a program writes for that."""
    return text is None or not text.strip() or text.strip() in MISSING


def why_no_text(text: str | None) -> str:
    """Return what is wrong with a row whose text `is_missing`, with the word that stands there."""
    word = (text or "").strip()
    return f"has no text ({word})" if word else "has no text"


def plain_label(label: str | None) -> str | None:
    """Return a label that is spelt as a list of one, `['praise']`, without brackets and quotes.

    None for an empty list. Several labels, and what is no list, stay as they are.
    """
    if label is None or not (LIST_OF_ONE.match(label)):
        return label
    try:
        value = ast.literal_eval(label.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return label
    if isinstance(value, list) and len(value) > 1:
        return label
    return text_of_value(value)


def json_value(value: Any) -> Any:
    """Return what JSON holds in place of a value of Arrow: a number, a text.

    None for bytes that are not UTF-8.
    """
    if isinstance(value, Decimal) and value.is_finite():
        return int(value) if value == value.to_integral_value() else float(value)
    return text_of_value(value)


def kind_of_value(value: Any) -> str | None:
    """Return what a value is that cannot be read as one text: LIST, OBJECT, BYTES; else None."""
    if isinstance(value, list | tuple):
        return LIST if len(value) > 1 else kind_of_value(value[0]) if value else None
    if isinstance(value, dict):
        return OBJECT
    if isinstance(value, bytes | bytearray | memoryview) and text_of_value(value) is None:
        return BYTES
    return None


def text_column(values: Iterable[Any]) -> tuple[pa.Array, dict[str, int]]:
    """Return values as an array of text, and {kind: position of its first value}.

    Kinds are those of `kind_of_value`, and NUMBER. Raises UnicodeEncodeError for half of a
    surrogate pair.
    """
    kinds: dict[str, int] = {}
    texts = []
    for position, value in enumerate(values):
        texts.append(text_of_value(value))
        if isinstance(value, str):
            continue
        is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
        if kind := NUMBER if is_number else kind_of_value(value):
            kinds.setdefault(kind, position)
    return pa.array(texts, pa.large_string()), kinds
