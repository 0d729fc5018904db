"""What pruning changed: size, speed and scores of the original, the pruned, the recovered model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.markup import escape

from textassay.artifacts.kinds import Loaded
from textassay.artifacts.weights import weight_bytes
from textassay.config.schema import EvaluationSection
from textassay.console import counted, out, table, tell
from textassay.data.load import Dataset
from textassay.evaluation.evaluate import Evaluation, evaluate
from textassay.evaluation.gains import Gain, paired_difference
from textassay.evaluation.metrics import HEADLINE, Score
from textassay.evaluation.report import show
from textassay.evaluation.speed import texts_per_second
from textassay.models.classifier import count_parameters
from textassay.models.pruning import sizes_of
from textassay.models.source import Source

ORIGINAL, RECOVERED = "original", "recovered"
SPEED_TEXTS = 512
ROUNDS = 5


@dataclass(frozen=True)
class Measured:
    """One of the models: what it has in each layer, its size, its speed, its scores on test rows.

    `gain` is its scores minus the original's on the same rows; None for the original itself.
    """

    path: str
    heads: int
    units: int
    parameters: int
    weight_bytes: int
    texts_per_second: float
    scores: dict[str, Score]
    gain: dict[str, Gain] | None


@dataclass(frozen=True)
class Outcome:
    """The models by name, and on how many rows of what they were compared."""

    models: dict[str, Measured]
    data: str
    rows: int
    validation_rows: int
    confidence: float
    device: str

    @property
    def run(self) -> Path:
        """The directory of the run that recovered it."""
        return Path(self.models[RECOVERED].path).parent

    def to_json(self) -> dict[str, Any]:
        """The content of `pruning.json`."""
        return asdict(self)

    def verdict(self, name: str) -> str:
        """One honest sentence on what a model lost or won against the original."""
        gain = self.models[name].gain or {}
        macro, accuracy = gain["macro_f1"], gain["accuracy"]
        found = ("no detectable difference from", "better than", "worse than")[macro.direction]
        return (
            f"{name}: {found} the original ({macro.figures('macro-F1')}; "
            f"{accuracy.figures('accuracy')}; {counted(self.rows, 'row')})."
        )


def measure_outcome(
    models: Mapping[str, Loaded],
    places: Mapping[str, Path],
    base: Source | None,
    dataset: Dataset,
    settings: EvaluationSection,
    batch_size: int,
    device: torch.device,
) -> Outcome:
    """Predict the test rows with all models, the original among them, and time them in turns.

    `base` is the original's, if it is an adapter, whose size is that of both files and whose speed
    is that of the model that they merge into.
    """
    test = dataset.splits["test"]
    found = {name: evaluate(loaded, "test", test, settings, batch_size, device)
             for name, loaded in models.items()}  # fmt: skip
    asked = {name: partial(_logits, loaded, batch_size, device) for name, loaded in models.items()}
    speeds = texts_per_second(asked, test["text"].to_pylist()[:SPEED_TEXTS], ROUNDS)
    first = found[ORIGINAL]
    measured = {}
    for name, loaded in models.items():
        sizes = sizes_of(loaded.model)
        scores = {key: found[name].scores[key] for key in HEADLINE}
        gain = None if found[name] is first else _gain(found[name], first, settings)
        measured[name] = Measured(
            str(places[name]), sizes.heads, sizes.units, count_parameters(loaded.model)[1],
            weight_bytes(places[name], base if name == ORIGINAL else None), speeds[name], scores,
            gain,
        )  # fmt: skip
    validation = len(dataset.splits["validation"])
    return Outcome(measured, dataset.name, len(test), validation, settings.confidence, device.type)


def _logits(
    loaded: Loaded, batch_size: int, device: torch.device, texts: Sequence[str]
) -> np.ndarray:
    return loaded.logits(loaded.ids(texts), batch_size, device)


def print_outcome(outcome: Outcome) -> None:
    """The table, a sentence on either model, and what the figures are worth."""
    title = (
        f"{outcome.data}, test, {counted(outcome.rows, 'row')}, {outcome.confidence:.0%} "
        f"intervals; texts a second on {outcome.device}, median of {ROUNDS} alternating rounds"
    )
    columns = ["", "heads", "units", "parameters", "MB", "texts/s", *HEADLINE]
    rows = [
        [name, str(one.heads), str(one.units), f"{one.parameters:,}",
         f"{one.weight_bytes / 1e6:.1f}", f"{one.texts_per_second:.0f}",
         *(show(one.scores[key]) for key in HEADLINE)]
        for name, one in outcome.models.items()
    ]  # fmt: skip
    out().print(table(escape(title), columns, rows))
    for name, one in outcome.models.items():
        if one.gain:
            tell(outcome.verdict(name))
    tell(
        "note: the validation rows picked what was cut and the checkpoint, so validation figures "
        "flatter; the test rows picked nothing."
    )
    for name, one in outcome.models.items():
        tell(f"{name + ':':<11}{one.path}")


def _gain(ours: Evaluation, original: Evaluation, settings: EvaluationSection) -> dict[str, Gain]:
    return paired_difference(
        original.truth, ours.predicted, original.predicted, len(original.labels),
        settings.confidence, settings.bootstrap_samples,
    )  # fmt: skip
