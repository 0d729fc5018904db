"""Prediction from Python: `Classifier.load(DIR).predict(["…"])`."""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self, overload

import numpy as np

from textassay.artifacts.hallmark import check_files, check_loaded, read_hallmark
from textassay.artifacts.kinds import Loaded, load_artifact
from textassay.console import warn
from textassay.data.encode import encode_texts
from textassay.models.device import find_device
from textassay.models.predict import compute_logits, softmax
from textassay.models.source import find_model


class Classifier:
    """An artifact that answers. Safe to use from several threads."""

    def __init__(self, loaded: Loaded, batch_size: int = 64) -> None:
        self._loaded = loaded
        self._batch_size = batch_size
        # A fast tokenizer's truncation settings are shared state.
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        folder: str | Path,
        base: str | None = None,
        device: str = "auto",
        check_hashes: bool = False,
    ) -> Self:
        """Load an artifact, or any transformers classifier, from a directory or by its hub name.

        `base` names the base of an adapter where it lies elsewhere than the adapter says.
        `check_hashes` also compares every file with the hallmark. Raises GateError where the
        artifact is not what its hallmark says, UsageError where there is none.
        """
        path = Path(folder)
        if not path.exists():
            path = find_model(str(folder)).path
        hallmark = read_hallmark(path)
        if hallmark is None:
            warn(f"{path}: carries no hallmark; nothing proves what it is")
        elif check_hashes:
            check_files(path, hallmark)
        loaded = load_artifact(path, base)
        if hallmark is not None:
            check_loaded(loaded, hallmark, path)
        loaded.model.to(find_device(device))
        return cls(loaded)

    @property
    def labels(self) -> list[str]:
        """The label names, in the order of the probabilities."""
        return list(self._loaded.labels.names)

    def logits(self, texts: Iterable[str]) -> np.ndarray:
        """Logits of shape [texts, labels], fp32."""
        listed = list(texts)
        if not listed:
            return np.empty((0, len(self.labels)), dtype=np.float32)
        loaded = self._loaded
        with self._lock:
            ids, _ = encode_texts(listed, loaded.tokenizer, loaded.max_length, loaded.prompt)
            return compute_logits(
                loaded.model, ids, loaded.tokenizer.pad_token_id, self._batch_size
            )

    def predict_proba(self, texts: Iterable[str]) -> np.ndarray:
        """Probabilities of shape [texts, labels]; every row sums to 1."""
        return softmax(self.logits(texts))

    @overload
    def predict(self, texts: str) -> dict[str, Any]: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, texts: Iterable[str]) -> list[dict[str, Any]]: ...
    def predict(self, texts: str | Iterable[str]) -> dict[str, Any] | list[dict[str, Any]]:
        """`{"label", "score", "probabilities"}` for a text, a list of them for several."""
        if isinstance(texts, str):
            return self.predict([texts])[0]
        answers = []
        for row in self.predict_proba(texts):
            best = int(row.argmax())
            probabilities = dict(zip(self.labels, map(float, row), strict=True))
            answers.append(
                {"label": self.labels[best], "score": float(row[best]),
                 "probabilities": probabilities}
            )  # fmt: skip
        return answers
