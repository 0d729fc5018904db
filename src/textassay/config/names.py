"""Names and values as a library spells them, and names that are nearly right."""

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

# One name, or several. What has other characters is one of PEFT's patterns.
LISTED = re.compile(r"[\w.]+(\s*,\s*[\w.]+)*\s*,?")


def nearest(name: str, known: Iterable[str]) -> str:
    """A phrase that ends an error message: the nearest known name, or all of them if few."""
    names = list(known)
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if found:
        return f"did you mean {found[0]}?"
    return (
        f"known are {', '.join(sorted(names))}" if len(names) <= 30 else "see docs/configuration.md"
    )


def typed_fields(
    given: dict[str, Any], fields: dict[str, str], where: str, also: list[str] | None = None
) -> dict[str, Any]:
    """`given` with every value as its field wants it; an unknown key is a ValueError."""
    for key in given:
        if key not in fields:
            raise ValueError(
                f"{key} is not a setting of {where}; {nearest(key, [*fields, *(also or [])])}"
            )
    return {key: as_kind(fields[key], value, key) for key, value in given.items()}


def as_kind(kind: str, value: Any, key: str) -> Any:
    """`value` as a library field of this kind (see `KINDS`); flags and variables bring text."""
    if value is None or kind == "any":
        return value
    members = kind.split("|")
    for member in members:
        with suppress(ValueError):
            return KINDS[member](value)
    said = " or ".join(WORDS[member] for member in members)
    raise ValueError(f"{key} takes {said}, not {value!r}") from None


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    switches = {"true": True, "false": False, "1": True, "0": False}
    if isinstance(value, int | str) and str(value).lower() in switches:
        return switches[str(value).lower()]
    raise ValueError


def _int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    if isinstance(value, float) and not value.is_integer():
        raise ValueError
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _list(value: Any) -> list[Any]:
    """Names separated by commas, or a list in JSON; any other text is a pattern, not a list."""
    if isinstance(value, list):
        return value
    if isinstance(value, str) and value.startswith("["):
        return _list(json.loads(value))
    if isinstance(value, str) and LISTED.fullmatch(value.strip()):
        return [part.strip() for part in value.split(",") if part.strip()]
    raise ValueError


def _ints(value: Any) -> list[int]:
    """Whole numbers; one alone is left to a kind that may be one."""
    if isinstance(value, int):
        raise ValueError
    return [_int(part) for part in _list(value)]


def _dict(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, dict):
        raise ValueError
    return value


# What a value of each kind is made of, text included; a ValueError where it is none. In this order
# the kinds of a field are tried.
KINDS: dict[str, Callable[[Any], Any]] = {
    "bool": _bool, "int": _int, "float": _float, "list[int]": _ints, "list": _list, "dict": _dict,
    "str": _str,
}  # fmt: skip
WORDS = {
    "bool": "true or false", "int": "a whole number", "float": "a number",
    "list[int]": "whole numbers", "list": "a list", "dict": "a mapping (as a flag: JSON)",
    "str": "text",
}  # fmt: skip
