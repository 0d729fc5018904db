"""Settings from the environment and from `.env` files: TEXTASSAY_SECTION__KEY."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from textassay.config.homes import keys_of_variables
from textassay.config.names import nearest
from textassay.config.schema import Job
from textassay.errors import UsageError

PREFIX = "TEXTASSAY_"
# Those that are no settings (docs/configuration.md, docs/containers.md, docs/cluster.md).
VARIABLES = {
    PREFIX + name
    for name in (
        "CACHE", "CI", "COMMIT", "DATA_DIR", "DOCKER_HOST", "HOME", "PORT_SECRET", "PYTHON",
        "RANKS_STORE", "REAL_DATA", "SAVE_SECONDS", "STARTED_BY", "THREADS_REASON", "THREADS_SET",
        "TORCH_INDEX",
        "BASE_IMAGE", "BUILD_FLAGS", "CPU_IMAGE", "CUDA_IMAGE",
        "SLURM_IMAGE", "SLURM_MODULES", "SLURM_MOUNTS", "SLURM_PYTHON", "SLURM_RUNTIME",
        "SLURM_SCRATCH", "SLURM_SITE",
    )
}  # fmt: skip
REFERENCE = re.compile(r"\$\{(\w+)\}")
ENCODING = "utf-8-sig"  # Notepad puts a byte-order mark before the first name


def hub_is_off() -> bool:
    """Whether the hub must not be asked, by the variables and values that huggingface_hub knows.

    Read at every call: the library reads them when it is imported.
    """
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.lower() in ("1", "true", "yes", "on")


def read_env_file(path: Path) -> dict[str, str]:
    """The variables of a `.env` file; nothing is put into the process's environment.

    UsageError for a line that is no assignment.
    """
    from dotenv import dotenv_values

    if not path.is_file():
        raise UsageError(f"{path}: there is no such file; --env_file names a .env file.")
    try:
        _refuse_broken_lines(path)
        found = dotenv_values(path, interpolate=False, encoding=ENCODING)
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not text; --env_file names a .env file.") from None
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


def fill_references(path: Path, raw: Mapping[str, str]) -> dict[str, str]:
    """`raw`, which was read from `path`, with other values where ${NAME} or ${NAME:-default} stand.

    They are those of the file or of the environment. UsageError where neither sets NAME: nothing
    would stand there, and a directory, say, would be another one.
    """
    from dotenv import dotenv_values

    for name, value in raw.items():
        for meant in REFERENCE.findall(value):
            if meant not in raw and meant not in os.environ:
                raise UsageError(
                    f"{path}: {name} is {value!r}, and neither the file nor the environment sets "
                    f"{meant}."
                )
    filled = dotenv_values(path, interpolate=True, encoding=ENCODING)
    return {name: value or "" for name, value in filled.items()}


def settings_in(variables: Mapping[str, str]) -> dict[str, str]:
    """`{"training.learning_rate": "1e-4"}` for TEXTASSAY_TRAINING__LEARNING_RATE=1e-4."""
    found = {}
    for name, value in variables.items():
        section, separator, key = name.removeprefix(PREFIX).lower().partition("__")
        if name.startswith(PREFIX) and separator and value != "":
            found[f"{section}.{key}"] = value
    return found


def refuse_unknown(variables: Mapping[str, str], source: str) -> None:
    """UsageError for a variable that begins with TEXTASSAY_ and that nothing reads."""
    for name in variables:
        if name.startswith(PREFIX) and "__" not in name and name not in VARIABLES:
            raise UsageError(f"{source}: {name} is not a variable of textassay; {_advice(name)}")


def _advice(name: str) -> str:
    """What was meant: a setting with one underscore too few, above all."""
    if (flag := name.removeprefix(PREFIX).lower()) in Job.model_fields:
        return f"use the flag --{flag}."
    settings = {f"{PREFIX}{key.replace('.', '__').upper()}" for key in keys_of_variables()}
    return nearest(name, [*settings, *VARIABLES])
