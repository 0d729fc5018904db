"""Predictions of two classifiers that nobody trained, and a comparison of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from textassay.artifacts.kinds import Loaded
from textassay.config.schema import EvaluationSection
from textassay.data.labels import LabelMap
from textassay.evaluation.compare import Comparison, Side
from textassay.evaluation.contenders import RANDOM_HEAD, Contender, Selection
from textassay.evaluation.differences import differences
from textassay.evaluation.evaluate import Evaluation
from textassay.evaluation.metrics import score

LABELS = ("bad", "fine", "good")
FEW = EvaluationSection(bootstrap_samples=100)


def random_case(seed: int, rows: int, labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and two predictions that are right more often than chance."""
    random = np.random.default_rng(seed)
    truth = random.integers(labels, size=rows)
    sides = [np.where(random.random(rows) < 0.5, truth, random.integers(labels, size=rows))
             for _ in range(2)]  # fmt: skip
    return truth, sides[0], sides[1]


def names_of(count: int) -> tuple[str, ...]:
    return tuple(f"label {index}" for index in range(count))


def comparison_of(
    truth: np.ndarray,
    ours: np.ndarray,
    theirs: np.ndarray,
    names: tuple[str, ...],
    is_untuned: bool = False,
) -> Comparison:
    """A comparison without models, from label ids."""
    labels = LabelMap(names)
    nothing = Loaded("model", None, None, labels, 32, None, None)
    table = pa.table({"label": [names[index] for index in truth]})
    sides = []
    for letter, predicted in (("A", ours), ("B", theirs)):
        logits = np.eye(len(names))[predicted]
        found = Evaluation("test", labels, table, truth, logits, 0,
                           score(truth, logits, resamples=100), FEW)  # fmt: skip
        contender = Contender(f"runs/job/{letter}", Path(letter), nothing, None, None)
        sides.append(Side(letter, contender, found, []))
    if is_untuned:
        untuned = replace(
            sides[1].contender, name=RANDOM_HEAD, is_untuned=True, has_random_head=True
        )
        sides[1] = replace(sides[1], contender=untuned)
    selection = Selection("rows", "test", table, None, None)
    found = differences(truth, ours, theirs, names, FEW)
    return Comparison(sides[0], sides[1], selection, found, ["a note"])
