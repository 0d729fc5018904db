"""One evaluator for every artifact: logits on rows, scores, and the files that hold them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from textassay.artifacts.kinds import Loaded
from textassay.config.schema import EvaluationSection
from textassay.data.encode import encode
from textassay.data.labels import LabelMap
from textassay.evaluation.baselines import majority, tfidf
from textassay.evaluation.metrics import Score, paired_difference, per_class, score
from textassay.files import replacing
from textassay.models.predict import compute_logits, softmax


@dataclass
class Evaluation:
    """What a classifier did on the rows of a split."""

    split: str
    labels: LabelMap
    table: pa.Table
    truth: np.ndarray
    logits: np.ndarray
    truncated: int
    scores: dict[str, Score]
    settings: EvaluationSection

    @property
    def predicted(self) -> np.ndarray:
        """Label ids, shape [rows]."""
        ids: np.ndarray = self.logits.argmax(1)
        return ids

    def to_json(self, prefix: str) -> dict[str, Any]:
        """Flat figures named like transformers' (`test_accuracy`), then intervals and classes."""
        flat = {f"{prefix}_{name}": one.value for name, one in self.scores.items()}
        return {
            **flat,
            f"{prefix}_rows": len(self.truth),
            f"{prefix}_truncated": self.truncated,
            "confidence": self.settings.confidence,
            "bootstrap_samples": self.settings.bootstrap_samples,
            "intervals": {name: [one.low, one.high] for name, one in self.scores.items()},
            "per_class": per_class(self.truth, self.predicted, self.labels.names),
        }


@dataclass
class Baseline:
    """A model that costs nothing, on the same rows, and how far ours is ahead of it."""

    name: str
    scores: dict[str, Score]
    ahead: dict[str, Score]

    def to_json(self) -> dict[str, Any]:
        """Figures and intervals by name."""
        return {
            "name": self.name,
            "scores": {name: asdict(one) for name, one in self.scores.items()},
            "ahead": {name: asdict(one) for name, one in self.ahead.items()},
        }


def evaluate(
    loaded: Loaded,
    split: str,
    table: pa.Table,
    settings: EvaluationSection,
    batch_size: int,
    device: torch.device,
) -> Evaluation:
    """Predict every row of `table` in fp32 and score it."""
    rows = encode(table, loaded.tokenizer, loaded.labels, loaded.max_length, loaded.prompt)
    ids: Sequence[Sequence[int]] = rows.data["input_ids"].to_pylist()
    model = loaded.model.to(device)
    logits = compute_logits(model, ids, loaded.tokenizer.pad_token_id, batch_size)
    truth = np.array(loaded.labels.ids(table["label"].to_pylist()))
    truncated = int(np.sum(rows.data["truncated"].to_numpy()))
    scores = score(truth, logits, settings.confidence, settings.bootstrap_samples)
    return Evaluation(split, loaded.labels, table, truth, logits, truncated, scores, settings)


def compare_with_baselines(tuned: Evaluation, train: pa.Table) -> list[Baseline]:
    """The baselines on the rows of `tuned`; they learn from `train` alone."""
    count = len(tuned.labels)
    train_ids = np.array(tuned.labels.ids(train["label"].to_pylist()))
    texts, own = train["text"].to_pylist(), tuned.table["text"].to_pylist()
    contenders = {
        "TF-IDF": tfidf(texts, train_ids, own, count),
        "majority": majority(train_ids, len(own), count),
    }
    level, resamples = tuned.settings.confidence, tuned.settings.bootstrap_samples
    return [
        Baseline(
            name,
            score(tuned.truth, logits, level, resamples),
            paired_difference(
                tuned.truth, tuned.predicted, logits.argmax(1), count, level, resamples
            ),
        )
        for name, logits in contenders.items()
    ]


def write_predictions(path: Path, evaluated: Evaluation) -> None:
    """One row a text: where it stands, its label, the predicted one, and all probabilities."""
    names = evaluated.labels.names
    probabilities = softmax(evaluated.logits)
    columns: dict[str, Any] = {
        "file": evaluated.table["file"],
        "line": evaluated.table["line"],
        "text": evaluated.table["text"],
        "label": evaluated.table["label"],
        "predicted": pa.array([names[index] for index in evaluated.predicted]),
        "score": pa.array(probabilities.max(1)),
    }
    for index, name in enumerate(names):
        columns[f"probability of {name}"] = pa.array(probabilities[:, index])
    with replacing(path) as scratch:
        pq.write_table(pa.table(columns), scratch)
