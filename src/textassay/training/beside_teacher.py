"""A student beside its teacher: the same test rows, the sizes, the speeds."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from textassay.artifacts.classifier import Classifier
from textassay.artifacts.weights import weight_bytes
from textassay.config.runs import Run
from textassay.console import counted, out, table
from textassay.evaluation.evaluate import Evaluation
from textassay.evaluation.gains import paired_difference
from textassay.evaluation.metrics import HEADLINE, Score, score
from textassay.evaluation.outputs import TEACHER
from textassay.evaluation.report import show, show_gain
from textassay.files import write_json
from textassay.training.teacher import TEACHER_LOGITS, Teacher, ask

TIMED_ROWS = 200
# Two classifiers in one process disturb each other less when they take turns.
TURNS = 3


def stand_beside_teacher(run: Run, teacher: Teacher, tested: Evaluation) -> None:
    """Write and print what teacher and student come to on the test rows, and what they cost.

    Each is calibrated as its artifact says. Intervals are as for any figure; the difference is
    paired, both on the same resamples.
    """
    device, settings = run.job.resources.device, tested.settings
    answers = ask(teacher, tested.table["text"], tested.labels, device)
    logits = np.array(answers[TEACHER_LOGITS], dtype=np.float32)
    level, resamples = settings.confidence, settings.bootstrap_samples
    classifier = teacher.load(device)
    taught = score(tested.truth, logits / classifier.temperature, level, resamples)
    behind = paired_difference(tested.truth, tested.predicted, logits.argmax(1),
                               len(tested.labels), level, resamples)  # fmt: skip
    texts = tested.table["text"].slice(0, TIMED_ROWS).to_pylist()
    student = Classifier.load(run.model_dir, device=device)
    speeds = _speeds([classifier, student], texts)
    sizes = [
        weight_bytes(teacher.folder, classifier.base), weight_bytes(run.model_dir, student.base)
    ]  # fmt: skip
    facts = {
        "rows": len(tested.truth),
        "confidence": level,
        "teacher": {**teacher.describe(), **_side(taught, sizes[0], speeds[0])},
        "student": _side(tested.scores, sizes[1], speeds[1]),
        "student_minus_teacher": {name: asdict(one) for name, one in behind.items()},
        "timed_rows": len(texts),
    }
    write_json(run.path / TEACHER, facts)
    _print(facts, taught, tested.scores, behind)


def _side(scores: dict[str, Score], size: int, speed: float) -> dict[str, Any]:
    return {
        "scores": {name: asdict(one) for name, one in scores.items()},
        "megabytes": round(size / 1e6, 1),
        "texts_per_second": round(speed, 1),
    }


def _speeds(classifiers: list[Classifier], texts: list[str]) -> list[float]:
    """Texts a second of each, from strings to logits: the best of several turns."""
    best = [0.0] * len(classifiers)
    for _ in range(TURNS):
        for index, classifier in enumerate(classifiers):
            started = time.perf_counter()
            classifier.logits(texts)
            best[index] = max(best[index], len(texts) / (time.perf_counter() - started))
    return best


def _print(
    facts: dict[str, Any], taught: dict[str, Score], own: dict[str, Score],
    behind: Mapping[str, Score],
) -> None:  # fmt: skip
    costs = {
        side: [f"{facts[side]['megabytes']:,.0f}", f"{facts[side]['texts_per_second']:,.0f}"]
        for side in ("teacher", "student")
    }
    rows = [
        ["the teacher", *(show(taught[name]) for name in HEADLINE), *costs["teacher"]],
        ["the student", *(show(own[name]) for name in HEADLINE), *costs["student"]],
        ["difference", *(show_gain(behind[name]) for name in HEADLINE), "", ""],
    ]
    title = f"test, {counted(facts['rows'], 'row')}, {facts['confidence']:.0%} intervals"
    out().print(table(title, ["", *HEADLINE, "MB", "texts/s"], rows))
