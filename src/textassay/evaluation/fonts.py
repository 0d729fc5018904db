"""Fonts of this machine that have the characters of a label: DejaVu has Latin, but no Chinese."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from matplotlib import font_manager, rc_context

LATIN = "DejaVu Sans"  # matplotlib brings it
PLACEHOLDERS = "Last Resort"  # this too, with an empty box for every character there is


@contextmanager
def plain_text() -> Iterator[None]:
    """Texts drawn inside are shown as they are: a label such as `$5` is no formula."""
    with rc_context({"text.parse_math": False}):
        yield


@cache
def families(text: str) -> list[str] | None:
    """Fonts that have every character of `text` between them; None where no font here does."""
    missing = set(map(ord, text)) - characters_of(font_manager.findfont(LATIN))
    if not missing:
        return [LATIN]
    for entry in font_manager.fontManager.ttflist:
        if not entry.name.startswith(PLACEHOLDERS) and missing <= characters_of(entry.fname):
            return [LATIN, entry.name]
    return None


def characters_of(font: str) -> set[int]:
    """The code points that a font file has; none where it cannot be read."""
    try:
        return set(font_manager.get_font(font).get_charmap())
    except (OSError, RuntimeError):
        return set()
