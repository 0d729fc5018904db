"""What can go wrong, and the exit code that each kind of it ends with."""

import re

ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")

# What terminals obey or reorder and nobody sees: control characters but tab and newline, the marks
# that turn the direction of text, and halves of surrogate pairs (bytes of names that are no UTF-8).
UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class TextassayError(Exception):
    """Something that its message alone explains: what, where, and what to do. Exit code 1."""

    exit_code = 1


class UsageError(TextassayError):
    """A flag, a job file or the environment asks for something that cannot be. Exit code 2."""

    exit_code = 2


class GateError(TextassayError):
    """A check that may refuse has refused: a broken hallmark, say. Exit code 3."""

    exit_code = 3


class DataError(TextassayError):
    """The data cannot be used as they are; the message names file and row. Exit code 65."""

    exit_code = 65


class Stopped(TextassayError):  # noqa: N818 (nothing went wrong)
    """A signal asked to stop, and the same command goes on where this one ended. Exit code 75."""

    exit_code = 75


def first_line(error: BaseException) -> str:
    """The first line of what a library says, without colours; empty where it says nothing."""
    return (without_colours(str(error)).strip().splitlines() or [""])[0]


def without_colours(text: str) -> str:
    """A text without the escape sequences with which terminals are coloured."""
    return ESCAPES.sub("", text)


def visible(text: str) -> str:
    """A text of somebody else's for a terminal: ESC as `\\x1b`, the rest as JSON escapes it."""
    return UNSEEN.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x20 else f"\\u{code:04x}"
