"""Settings from the environment and from `.env` files: TEXTASSAY_SECTION__KEY."""

from collections.abc import Mapping
from pathlib import Path

from textassay.errors import UsageError

PREFIX = "TEXTASSAY_"


def read_env_file(path: Path) -> dict[str, str]:
    """The variables of a `.env` file; nothing is put into the process's environment."""
    from dotenv import dotenv_values

    if not path.is_file():
        raise UsageError(f"{path}: there is no such file; --env_file names a .env file.")
    try:
        found = dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not text; --env_file names a .env file.") from None
    return {name: value or "" for name, value in found.items()}


def settings_in(variables: Mapping[str, str]) -> dict[str, str]:
    """`{"training.learning_rate": "1e-4"}` for TEXTASSAY_TRAINING__LEARNING_RATE=1e-4."""
    found = {}
    for name, value in variables.items():
        section, separator, key = name.removeprefix(PREFIX).lower().partition("__")
        if name.startswith(PREFIX) and separator and value != "":
            found[f"{section}.{key}"] = value
    return found
