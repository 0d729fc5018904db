"""The models of a server: loaded, held in memory of their own, warmed up."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from textassay.artifacts.classifier import Classifier
from textassay.artifacts.hallmark import FILE as HALLMARK
from textassay.files import sha256_file
from textassay.models.probabilities import softmax
from textassay.serving.batching import Answer, Batcher
from textassay.serving.metrics import Metrics
from textassay.serving.settings import Settings

WARM_TEXTS = ("", "short", "a text of some words and a few more, ", "这部电影很好看，我很喜欢")


class FileState(NamedTuple):
    """What tells cheaply that a file was written again."""

    size: int
    modified: int
    inode: int


class ServedModel:
    """One model by its name, with the thread that computes its answers."""

    def __init__(
        self, name: str, folder: Path, classifier: Classifier, settings: Settings, metrics: Metrics
    ) -> None:
        self.name = name
        self.folder = folder
        self.classifier = classifier
        self.labels = classifier.labels
        self._files = _files(folder)
        stamped = folder / HALLMARK
        self.hallmark = sha256_file(stamped) if stamped.is_file() else None
        sizes = metrics.batch_size.labels(name)
        seconds = metrics.batch_seconds.labels(name)

        def observe(texts: int, needed: float) -> None:
            sizes.observe(texts)
            seconds.observe(needed)

        self.batcher = Batcher(self.compute, settings.batch_size, settings.limits.queue, observe)

    def compute(self, texts: list[str]) -> list[Answer]:
        """What `Classifier.predict_proba` gives, and the logits behind it."""
        logits = self.classifier.logits(texts)
        if not np.isfinite(logits).all():
            raise ValueError("its logits are no finite numbers")
        probabilities = softmax(logits, self.classifier.temperature)
        return [*map(Answer, probabilities.tolist(), logits.tolist())]

    def changed_files(self) -> list[str]:
        """The files that are not those that were loaded, by size, time and inode; sorted names.

        What was loaded goes on answering as before: nothing of it is read from disk again.
        """
        now = _files(self.folder)
        return sorted(
            name for name in {*now, *self._files} if now.get(name) != self._files.get(name)
        )

    def warm_up(self, batch_size: int) -> None:
        """Answer short and long texts, alone and together: no request pays for the first."""
        longest = "word " * self.classifier.max_length
        for texts in ([WARM_TEXTS[1]], [*WARM_TEXTS, longest], [WARM_TEXTS[2] * 2] * batch_size):
            self.compute(list(texts))


def load_models(settings: Settings, metrics: Metrics) -> dict[str, ServedModel]:
    """Every model by its name, ready to answer.

    Files are held to their hallmark by hash. Raises GateError where an artifact is not what its
    hallmark says, or is broken.
    """
    models: dict[str, ServedModel] = {}
    share: Callable[[Classifier], int] | None = None
    for name, place in settings.models:
        classifier = Classifier.load(
            place,
            base=settings.base,
            device=settings.device,
            check_hashes=True,
            threads=settings.threads,
        )
        if not classifier.kind.startswith("onnx"):
            from textassay.artifacts.sharing import SharedWeights  # torch

            share = share or SharedWeights().adopt
            share(classifier)
        models[name] = ServedModel(name, Path(place), classifier, settings, metrics)
        models[name].warm_up(settings.batch_size)
    return models


def _files(folder: Path) -> dict[str, FileState]:
    """Every file below a folder; those that go while we look are not there."""
    found: dict[str, FileState] = {}
    for path in folder.rglob("*"):
        try:
            state = path.stat()
        except OSError:
            continue
        if path.is_file():
            name = str(path.relative_to(folder))
            found[name] = FileState(state.st_size, state.st_mtime_ns, state.st_ino)
    return found
