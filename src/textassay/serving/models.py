"""The models of a server: loaded, held in memory of their own, warmed up."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from textassay.artifacts.classifier import Classifier
from textassay.artifacts.hallmark import FILE as HALLMARK
from textassay.errors import GateError
from textassay.models.probabilities import softmax
from textassay.serving.batching import Answer, Batcher
from textassay.serving.metrics import Metrics
from textassay.serving.places import Place, version_of
from textassay.serving.settings import Settings

WARM_TEXTS = ("", "short", "a text of some words and a few more, ", "这部电影很好看，我很喜欢")


class FileState(NamedTuple):
    """What tells cheaply that a file was written again."""

    size: int
    modified: int
    inode: int


class ServedModel:
    """One version of a model, with the thread that computes its answers.

    `place` names the version that was loaded, `files` are those that it was loaded from.
    """

    def __init__(
        self, place: Place, classifier: Classifier, files: dict[str, FileState],
        settings: Settings, metrics: Metrics,
    ) -> None:  # fmt: skip
        self.place = place
        self.name = place.name
        self.version = place.version or ""
        self.folder = Path(place.folder)
        self.classifier = classifier
        self.labels = classifier.labels
        self._files = files
        self._requests = 0
        self._is_retired = False
        self.hallmark = place.version if (self.folder / HALLMARK).is_file() else None
        sizes = metrics.batch_size.labels(self.name)
        seconds = metrics.batch_seconds.labels(self.name)

        def observe(texts: int, needed: float) -> None:
            sizes.observe(texts)
            seconds.observe(needed)

        self.batcher = Batcher(self.compute, settings.batch_size, settings.limits.queue, observe)

    def compute(self, texts: list[str]) -> list[Answer]:
        """What `Classifier.predict_proba` gives, the logits behind it, and who was cut, perhaps."""
        ids = self.classifier.ids(texts)
        logits = self.classifier.logits_of_ids(ids)
        if not np.isfinite(logits).all():
            raise ValueError("its logits are no finite numbers")
        probabilities = softmax(logits, self.classifier.temperature)
        full = [len(row) >= self.classifier.max_length for row in ids]
        return [*map(Answer, probabilities.tolist(), logits.tolist(), full)]

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Keep this version for a request that began with it, until the request is answered."""
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            self._end_if_unused()

    def retire(self) -> None:
        """End the thread as soon as no request needs it. For the event loop's thread."""
        self._is_retired = True
        self._end_if_unused()

    def _end_if_unused(self) -> None:
        if self._is_retired and not self._requests:
            self.batcher.end()

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


def load_models(
    settings: Settings, places: Sequence[Place], metrics: Metrics, verify: bool = False
) -> dict[str, ServedModel]:
    """Every model by its name, ready to answer.

    Files are held to their hallmark by hash, with `verify` the logits of its rows, too. Raises
    GateError where an artifact is not what its hallmark says, is broken, or is another version than
    its place asks for.
    """
    models: dict[str, ServedModel] = {}
    share: Callable[[Classifier], int] | None = None
    try:
        for place in places:
            files = _files(Path(place.folder))
            classifier = _load(settings, place, verify)
            if not classifier.kind.startswith("onnx"):
                from textassay.artifacts.sharing import SharedWeights  # torch

                share = share or SharedWeights().adopt
                share(classifier)
            pinned = _pin(place, classifier, files)
            models[place.name] = ServedModel(pinned, classifier, files, settings, metrics)
            models[place.name].warm_up(settings.batch_size)
    except BaseException:
        for model in models.values():
            model.retire()
        raise
    return models


def _load(settings: Settings, place: Place, verify: bool) -> Classifier:
    return Classifier.load(
        place.folder,
        base=settings.base,
        device=settings.device,
        check_hashes=True,
        check_logits=verify,
        threads=settings.threads,
    )


def _pin(place: Place, classifier: Classifier, files: dict[str, FileState]) -> Place:
    """The place with the version that was loaded. GateError where that is not the right one."""
    folder = Path(place.folder)
    version = version_of(folder, classifier)
    if _files(folder) != files:
        raise GateError(f"{folder}: was written to while it was loaded; load it again.")
    if place.version not in (None, version):
        raise GateError(
            f"{folder}: is no longer the version of {place.name} that this server loaded; send "
            "SIGHUP to the server to change to what lies there now."
        )
    return replace(place, version=version)


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
