"""One evaluator for every artifact: logits on rows, scores, and the files that hold them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from textassay.evaluation.baselines import NotFittedError, majority, tfidf
from textassay.evaluation.confidences import CALIBRATED
from textassay.evaluation.gains import Gain, paired_difference
from textassay.evaluation.metrics import (
    Score,
    calibration_change,
    per_class,
    probability_scores,
    score,
)
from textassay.files import replacing
from textassay.models.probabilities import softmax

PREDICTIONS = "predictions.parquet"
PREDICTED_BY = "predicted by {name}"


@dataclass(frozen=True)
class Calibrated:
    """What a temperature did to log loss and ECE on some rows; `change` is paired."""

    temperature: float
    before: dict[str, Score]
    after: dict[str, Score]
    change: dict[str, Score]

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Calibrated":
        """What `asdict` made of it; other keys are left out."""
        parts = {part: {name: Score(**one) for name, one in content[part].items()}
                 for part in ("before", "after", "change")}  # fmt: skip
        return cls(content["temperature"], **parts)


@dataclass
class Evaluation:
    """What a classifier did on the rows of a split.

    `logits` are raw. The scores are those of the probabilities that the artifact gives: of its
    logits over its temperature, where it was calibrated.
    """

    split: str
    labels: LabelMap
    table: pa.Table
    truth: np.ndarray
    logits: np.ndarray
    truncated: int
    scores: dict[str, Score]
    settings: EvaluationSection
    calibrated: Calibrated | None = None

    @property
    def predicted(self) -> np.ndarray:
        """Label ids, shape [rows]."""
        ids: np.ndarray = self.logits.argmax(1)
        return ids

    @property
    def probabilities(self) -> np.ndarray:
        """Calibrated where the artifact is, shape [rows, labels]."""
        return softmax(self.logits, self.calibrated.temperature if self.calibrated else 1.0)

    def at_temperature(self, temperature: float) -> "Evaluation":
        """The same rows and logits, uncalibrated so far, with the probabilities at a temperature.

        The labels and all that is computed from them stay.
        """
        level, resamples = self.settings.confidence, self.settings.bootstrap_samples
        raw, scaled = softmax(self.logits), softmax(self.logits, temperature)
        after = probability_scores(self.truth, scaled, level)
        calibrated = Calibrated(
            temperature,
            {name: self.scores[name] for name in CALIBRATED},
            {name: after[name] for name in CALIBRATED},
            calibration_change(self.truth, raw, scaled, level, resamples),
        )
        return replace(self, scores={**self.scores, **after}, calibrated=calibrated)

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
            "calibration": asdict(self.calibrated) if self.calibrated else None,
            "per_class": per_class(self.truth, self.predicted, self.labels.names),
        }


@dataclass
class Baseline:
    """A model that costs nothing, on the same rows, and how far ours is ahead of it.

    `predicted` are label ids of shape [rows].
    """

    name: str
    scores: dict[str, Score]
    ahead: dict[str, Gain]
    predicted: np.ndarray

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
    """Predict every row of `table` in fp32 and score it, at the artifact's temperature."""
    rows = encode(table, loaded.tokenizer, loaded.labels, loaded.max_length, loaded.prompt)
    ids: Sequence[Sequence[int]] = rows.data["input_ids"].to_pylist()
    logits = loaded.logits(ids, batch_size, device)
    truth = np.array(loaded.labels.ids(table["label"].to_pylist()))
    truncated = int(np.sum(rows.data["truncated"].to_numpy()))
    scores = score(truth, logits, settings.confidence, settings.bootstrap_samples)
    raw = Evaluation(split, loaded.labels, table, truth, logits, truncated, scores, settings)
    return raw if loaded.temperature == 1 else raw.at_temperature(loaded.temperature)


def compare_with_baselines(tuned: Evaluation, train: pa.Table) -> tuple[list[Baseline], list[str]]:
    """The baselines on the rows of `tuned`, and a note on each that cannot be fitted.

    They learn from `train` alone, and from rows of the artifact's own labels; rows of others are
    left out, and a note says so.
    """
    count = len(tuned.labels)
    train, strange = _of_known_labels(train, tuned.labels)
    train_ids = np.array(tuned.labels.ids(train["label"].to_pylist()))
    texts, own = train["text"].to_pylist(), tuned.table["text"].to_pylist()
    kinds: dict[str, Callable[[], np.ndarray]] = {
        "TF-IDF": lambda: tfidf(texts, train_ids, own, count),
        "majority": lambda: majority(train_ids, len(own), count),
    }
    level, resamples = tuned.settings.confidence, tuned.settings.bootstrap_samples
    baselines, notes = [], strange
    for name, fit in kinds.items():
        try:
            logits = fit()
        except NotFittedError as error:
            notes.append(f"The baseline {name} cannot be fitted: {error}.")
            continue
        predicted = logits.argmax(1)
        ahead = paired_difference(tuned.truth, tuned.predicted, predicted, count, level, resamples)
        scores = score(tuned.truth, logits, level, resamples)
        baselines.append(Baseline(name, scores, ahead, predicted))
    return baselines, notes


def _of_known_labels(train: pa.Table, labels: LabelMap) -> tuple[pa.Table, list[str]]:
    """The training rows whose label the artifact knows, and a note on those that are left out."""
    names = train["label"].to_pylist()
    known = [name in labels.label2id for name in names]
    if all(known):
        return train, []
    others = sorted({name for name, is_known in zip(names, known, strict=True) if not is_known})
    listed = ", ".join(map(repr, others[:10]))
    note = (
        f"The baselines do not learn from {known.count(False):,} of the {len(names):,} training "
        f"rows, whose labels the artifact does not know: {listed}."
    )
    return train.filter(pa.array(known)), [note]


def stamped_figures(rows: int, scores: Mapping[str, Score]) -> dict[str, Any]:
    """What a hallmark keeps of an evaluation on the validation rows."""
    macro = scores["macro_f1"]
    return {"rows": rows, "macro_f1": [macro.value, macro.low, macro.high]}


def write_predictions(path: Path, evaluated: Evaluation, baselines: Sequence[Baseline]) -> None:
    """One row a text: where it stands, its label, the predicted one, and all probabilities.

    Also what each baseline predicts, which a job's verdict is made of.
    """
    names = evaluated.labels.names
    probabilities = evaluated.probabilities
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
    for baseline in baselines:
        given = [names[index] for index in baseline.predicted]
        columns[PREDICTED_BY.format(name=baseline.name)] = pa.array(given)
    with replacing(path) as scratch:
        pq.write_table(pa.table(columns), scratch)
