"""Where a server's models lie, and which version of each: what every worker must load alike."""

from dataclasses import dataclass
from pathlib import Path

from textassay.artifacts.classifier import Classifier
from textassay.artifacts.hallmark import FILE as HALLMARK
from textassay.files import sha256_file, sha256_text
from textassay.serving.choosing import choose_artifact
from textassay.serving.settings import Settings

# Written by trainers and people beside a model; no answer depends on them.
NEVER_READ = {".pt", ".pth", ".log", ".md"}


@dataclass(frozen=True)
class Place:
    """A model's name and the directory of its artifact.

    `version` is the hash of what has to lie there (see `version_of`); None where anything may.
    """

    name: str
    folder: str
    version: str | None = None


def find_places(settings: Settings) -> tuple[Place, ...]:
    """The artifact to serve for every model of the settings, as they lie on the disk now."""
    return tuple(
        Place(name, str(choose_artifact(named, settings.backend, settings.device)))
        for name, named in settings.models
    )


def version_of(folder: Path, classifier: Classifier) -> str:
    """A hash of all that a model's answers depend on.

    With a hallmark it is the hallmark's own, to which files and base were held; else one over the
    files of the directory and the weights of an adapter's base.
    """
    stamped = folder / HALLMARK
    if stamped.is_file():
        return sha256_file(stamped)
    files = sorted(
        path
        for path in (*folder.iterdir(), *folder.glob("onnx/*"))
        if path.is_file() and path.suffix not in NEVER_READ
    )
    parts = [f"{path.relative_to(folder)} {sha256_file(path)}" for path in files]
    if classifier.base is not None:
        parts.append(f"base {classifier.base.weights_hash()}")
    return sha256_text(*parts)
