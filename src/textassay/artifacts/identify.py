"""What lies in a directory, found out from the names of files and their JSON; no weights are read.

The kinds are those of `artifacts/kinds.py`, and what cannot predict yet: a run, a base model, a
ZeRO checkpoint.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textassay.artifacts.onnx_files import onnx_kind
from textassay.artifacts.zero.files import STEP, find_step_folder, places_beside
from textassay.config.runs import is_run
from textassay.errors import DataError, GateError, UsageError
from textassay.files import read_json
from textassay.models.source import SETTINGS_KEY, weight_files

RUN, ADAPTER, MODEL, BASE_MODEL = "run", "adapter", "model", "base model"
ZERO, UNKNOWN = "ZeRO checkpoint", "unknown"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
INDEX = "model.safetensors.index.json"
CLASSIFIER = "ForSequenceClassification"


@dataclass(frozen=True)
class Identity:
    """What a path is, and the folder where it lies: a run's `model/`, a ZeRO `global_stepN/`.

    `config` is the config in or above a ZeRO checkpoint, without which nobody knows what its
    weights mean: None where there is none, and for all other kinds.
    """

    kind: str
    folder: Path
    config: Path | None = None

    @property
    def title(self) -> str:
        """The kind for people."""
        if self.kind != ZERO:
            return self.kind
        beside = f"with {self.config.name}" if self.config else "without config"
        return f"{ZERO}, {beside}"


def identify(path: Path) -> Identity:
    """What lies at a path. Raises UsageError where there is no such directory.

    Of a checkpoint that DeepSpeed has saved, its own files count and not what lies beside them.
    """
    if not path.exists():
        raise UsageError(f"{path}: there is no such directory.")
    if not path.is_dir():
        raise UsageError(f"{path}: is a file; name the directory that it lies in.")
    if is_run(path):
        return Identity(RUN, path / "model")
    if _has_rank_files(path):
        return _zero(path)
    kind = _kind_by_weights(path)
    if kind:
        return Identity(kind, path)
    if _has_latest(path) or any(map(_is_zero, path.glob("checkpoint-*"))):
        return _zero(path)
    return Identity(ADAPTER if (path / ADAPTER_CONFIG).is_file() else UNKNOWN, path)


def _is_zero(path: Path) -> bool:
    return path.is_dir() and (_has_rank_files(path) or _has_latest(path))


def _has_rank_files(path: Path) -> bool:
    """Whether ranks left their states here or in a `global_stepN/` below."""
    steps = [below for below in path.iterdir() if STEP.match(below.name) and below.is_dir()]
    return any(any(place.glob("*_optim_states.pt")) for place in (path, *steps))


def _has_latest(path: Path) -> bool:
    """Whether DeepSpeed's pointer to the last step lies here, wherever it points."""
    try:
        named = (path / "latest").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return STEP.match(named.strip()) is not None


def _zero(path: Path) -> Identity:
    try:
        folder = find_step_folder(path)
    except (DataError, GateError, OSError):  # whoever opens it is told
        folder = path
    names = (ADAPTER_CONFIG, "config.json")
    files = (place / name for place in places_beside(folder) for name in names)
    return Identity(ZERO, folder, next((file for file in files if file.is_file()), None))


def _kind_by_weights(path: Path) -> str | None:
    """The kind where weights lie beside a config of their own."""
    if (path / ADAPTER_CONFIG).is_file() and any((path / n).is_file() for n in ADAPTER_WEIGHTS):
        return ADAPTER
    if (path / "config.json").is_file() and _has_weights(path):
        if (path / ADAPTER_CONFIG).is_file():
            return ADAPTER
        return MODEL if _is_classifier(path / "config.json") else BASE_MODEL
    return onnx_kind(path)


def _has_weights(path: Path) -> bool:
    try:
        return bool(weight_files(path))
    except UsageError:
        return (path / INDEX).is_file()


def _is_classifier(config: Path) -> bool:
    """Whether a config is of a classifier; one that cannot be read may well be."""
    try:
        content: Any = read_json(config)
    except (OSError, ValueError):
        return True
    if not isinstance(content, dict):
        return True
    named = content.get("architectures")
    architectures = named if isinstance(named, list) else []
    return SETTINGS_KEY in content or any(str(a).endswith(CLASSIFIER) for a in architectures)
