"""Which values a field of a library can have."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple


class Limit(NamedTuple):
    """Which values are possible; `words` go on after "must be"."""

    holds: Callable[[Any], bool]
    words: str


def one_of(*choices: Any) -> Limit:
    """Only these values."""
    return Limit(choices.__contains__, f"one of {', '.join(map(str, choices))}")


ANY = Limit(lambda _: True, "anything")
POSITIVE = Limit(lambda value: value > 0, "more than 0")
FROM_0 = Limit(lambda value: value >= 0, "0 or more")
FROM_1 = Limit(lambda value: value >= 1, "1 or more")
BELOW_1 = Limit(lambda value: 0 <= value < 1, "0 or more and less than 1")


def refuse_outside(key: str, value: Any, limit: Limit) -> None:
    """ValueError for a value that a limit excludes."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key} must be a finite number, not {value}")
    if not limit.holds(value):
        raise ValueError(f"{key} must be {limit.words}, not {value!r}")
