"""Prediction from Python: `Classifier.load(DIR).predict(["…"])`."""

import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, overload

import numpy as np

from textassay.artifacts.hallmark import check_files, check_loaded, check_probe, read_hallmark
from textassay.artifacts.onnx_files import onnx_kind
from textassay.config.runs import artifact_in
from textassay.console import warn
from textassay.data.labels import LabelMap
from textassay.errors import DataError
from textassay.links import refuse_links
from textassay.models.probabilities import softmax

if TYPE_CHECKING:
    from textassay.models.source import Source

# Texts that are looked at together to find those of similar length.
WINDOW = 4096


class Predictor(Protocol):
    """What a classifier needs of an artifact in memory: `Loaded` in torch, or an `OnnxModel`."""

    @property
    def kind(self) -> str: ...
    @property
    def labels(self) -> LabelMap: ...
    @property
    def max_length(self) -> int: ...
    @property
    def temperature(self) -> float: ...
    @property
    def base(self) -> "Source | None": ...
    def ids(self, texts: Sequence[str]) -> list[list[int]]: ...
    def logits(self, input_ids: Sequence[Sequence[int]]) -> np.ndarray: ...


class Classifier:
    """An artifact that answers. Safe to use from several threads.

    It also stands where a text-classification `pipeline` of transformers is expected: call it.
    """

    def __init__(self, predictor: Predictor, hallmark: dict[str, Any] | None = None) -> None:
        self._predictor = predictor
        self.hallmark = hallmark
        # A fast tokenizer's truncation settings are shared state.
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        folder: str | Path,
        base: str | None = None,
        device: str = "auto",
        check_hashes: bool = True,
        threads: int | None = None,
        check_logits: bool = False,
    ) -> Self:
        """Load an artifact, or any transformers classifier, from a directory or by its hub name.

        Of a run its model/ is loaded. `base` names the base of an adapter where it lies elsewhere
        than the adapter says.
        Every file is compared with the hallmark, unless `check_hashes` is False; with
        `check_logits` it has to compute the logits of the hallmark's rows, too. `threads` is how
        many threads work on a batch; all CPUs unless it is given. Raises GateError where the
        artifact is not what its hallmark says, UsageError where there is none. An ONNX artifact is
        loaded without torch.
        """
        path = _find(folder)
        refuse_links(path)
        hallmark = read_hallmark(path)
        if hallmark is None:
            warn(f"{path}: carries no hallmark; nothing proves what it is")
        elif check_hashes:
            check_files(path, hallmark)
        predictor = _open(path, base, device, threads)
        if hallmark is not None:
            check_loaded(predictor, hallmark, path)
            if check_logits:
                check_probe(predictor, hallmark, path)
                _move(predictor, device)
        return cls(predictor, hallmark)

    @property
    def labels(self) -> list[str]:
        """The label names, in the order of the probabilities."""
        return list(self._predictor.labels.names)

    @property
    def kind(self) -> str:
        """`adapter`, `model`, `onnx` or `onnx-int8`."""
        return self._predictor.kind

    @property
    def temperature(self) -> float:
        """What logits are divided by to be calibrated; 1 where the artifact was not calibrated."""
        return self._predictor.temperature

    @property
    def max_length(self) -> int:
        """Tokens that a text is cut to."""
        return self._predictor.max_length

    @property
    def base(self) -> "Source | None":
        """Where an adapter's base was found; None for what is no adapter."""
        return self._predictor.base

    def ids(self, texts: Iterable[str]) -> list[list[int]]:
        """The token ids of each text, prompt included, cut to `max_length`.

        Raises DataError for a text that is no valid Unicode, with its number from 1.
        """
        listed = list(texts)
        with self._lock:
            try:
                return self._predictor.ids(listed) if listed else []
            except (UnicodeEncodeError, TypeError, ValueError):
                _refuse_no_texts(listed)
                raise

    def logits(self, texts: Iterable[str]) -> np.ndarray:
        """Logits of shape [texts, labels], fp32, before calibration."""
        return self.logits_of_ids(self.ids(texts))

    def predict_proba(self, texts: Iterable[str]) -> np.ndarray:
        """Calibrated probabilities of shape [texts, labels]; every row sums to 1."""
        return self.proba_of_ids(self.ids(texts))

    def proba_of_ids(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """The same for texts whose `ids` are known already."""
        return softmax(self.logits_of_ids(ids), self.temperature)

    def logits_of_ids(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """The logits of texts whose `ids` are known already."""
        if not ids:
            return np.empty((0, len(self.labels)), dtype=np.float32)
        with self._lock:
            return self._predictor.logits(ids)

    def stream(self, texts: Iterable[str], window: int = WINDOW) -> Iterator[np.ndarray]:
        """The probabilities of one text after another, each of shape [labels], in their order.

        Texts are taken from the iterable `window` at a time, so any number of them passes.
        """
        remaining = iter(texts)
        while several := list(itertools.islice(remaining, window)):
            yield from self.predict_proba(several)

    @overload
    def predict(self, texts: str) -> dict[str, Any]: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, texts: Iterable[str]) -> list[dict[str, Any]]: ...
    def predict(self, texts: str | Iterable[str]) -> dict[str, Any] | list[dict[str, Any]]:
        """`{"label", "score", "probabilities"}` for a text, a list of them for several."""
        if isinstance(texts, str):
            return self.predict([texts])[0]
        answers, names = [], self.labels
        for row in self.predict_proba(texts):
            best = int(row.argmax())
            probabilities = dict(zip(names, map(float, row), strict=True))
            answers.append(
                {"label": names[best], "score": float(row[best]),
                 "probabilities": probabilities}
            )  # fmt: skip
        return answers

    def __call__(self, inputs: str | Iterable[str], top_k: int | None = 1) -> list[Any]:
        """What a text-classification `pipeline` of transformers answers.

        A dictionary of label and score for each text in a list, also for a single one; with `top_k`
        other than 1 (None for all labels) a list of them for each text, the best first.
        """
        rows = self.predict_proba([inputs] if isinstance(inputs, str) else inputs)
        names = self.labels
        best_first = np.argsort(-rows, axis=1, kind="stable")[:, :top_k]
        answers = [
            [{"label": names[index], "score": float(row[index])} for index in best]
            for row, best in zip(rows, best_first, strict=True)
        ]
        if top_k == 1:
            return [answer[0] for answer in answers]
        return answers[0] if isinstance(inputs, str) else answers


def _find(folder: str | Path) -> Path:
    path = Path(folder)
    if path.exists():
        return artifact_in(path)
    from textassay.models.source import find_model  # torch

    return find_model(str(folder)).path


def _open(path: Path, base: str | None, device: str, threads: int | None) -> Predictor:
    if onnx_kind(path):
        from textassay.artifacts.onnx_model import OnnxModel

        return OnnxModel(path, threads, device)
    import torch

    from textassay.artifacts.kinds import Loaded, load_artifact

    if threads:
        torch.set_num_threads(threads)
    loaded: Loaded = load_artifact(path, base)
    _move(loaded, device)
    return loaded


def _move(predictor: Any, device: str) -> None:
    """Move a model of torch to a device; an ONNX session stays where it was opened."""
    if not predictor.kind.startswith("onnx"):
        from textassay.models.device import find_device

        predictor.model.to(find_device(device))


def _refuse_no_texts(texts: list[str]) -> None:
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise DataError(f"text {number}: is {type(text).__name__} and no string.")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"text {number}: holds half of a surrogate pair; it is not valid text."
            ) from None
