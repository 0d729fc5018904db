"""Names and values as a library spells them, and names that are nearly right."""

import difflib
from collections.abc import Iterable
from typing import Any


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
    """`value` as a library field of this kind; flags and variables bring text."""
    if value is None or kind == "any":
        return value
    try:
        if kind == "bool":
            if isinstance(value, bool):
                return value
            return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        if kind == "int":
            return int(value)
        if kind == "float":
            return float(value)
        if kind == "list" and isinstance(value, str) and "," in value:
            return [part.strip() for part in value.split(",")]
        return value
    except (KeyError, ValueError, TypeError):
        raise ValueError(f"{key} takes a {kind}, not {value!r}") from None
