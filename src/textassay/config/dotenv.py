"""Settings from the environment and from `.env` files: TEXTASSAY_SECTION__KEY."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from textassay.errors import UsageError

PREFIX = "TEXTASSAY_"
REFERENCE = re.compile(r"\$\{(\w+)\}")
ENCODING = "utf-8-sig"  # Notepad puts a byte-order mark before the first name


def read_env_file(path: Path, interpolate: bool = False) -> dict[str, str]:
    """The variables of a `.env` file; nothing is put into the process's environment.

    With `interpolate`, ${NAME} and ${NAME:-default} stand for other values of the file or of the
    environment. UsageError for a line that is no assignment.
    """
    from dotenv import dotenv_values

    if not path.is_file():
        raise UsageError(f"{path}: there is no such file; --env_file names a .env file.")
    try:
        _refuse_broken_lines(path)
        found = dotenv_values(path, interpolate=interpolate, encoding=ENCODING)
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not text; --env_file names a .env file.") from None
    if interpolate:
        _refuse_lost_references(path)
    return {name: value or "" for name, value in found.items()}


def _refuse_broken_lines(path: Path) -> None:
    from dotenv.parser import parse_stream

    with path.open(encoding=ENCODING) as stream:
        for binding in parse_stream(stream):
            if binding.error:
                raise UsageError(
                    f"{path}, line {binding.original.line}: is no NAME=value; a quote may not be "
                    "closed there."
                )


def _refuse_lost_references(path: Path) -> None:
    """Nothing would stand where ${NAME} does: a directory, say, would be another one."""
    raw = read_env_file(path)
    for name, value in raw.items():
        for meant in REFERENCE.findall(value):
            if meant not in raw and meant not in os.environ:
                raise UsageError(
                    f"{path}: {name} is {value!r}, and neither the file nor the environment sets "
                    f"{meant}."
                )


def settings_in(variables: Mapping[str, str]) -> dict[str, str]:
    """`{"training.learning_rate": "1e-4"}` for TEXTASSAY_TRAINING__LEARNING_RATE=1e-4."""
    found = {}
    for name, value in variables.items():
        section, separator, key = name.removeprefix(PREFIX).lower().partition("__")
        if name.startswith(PREFIX) and separator and value != "":
            found[f"{section}.{key}"] = value
    return found
