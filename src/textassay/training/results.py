"""The files of results that a run leaves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textassay.artifacts.hallmark import FILE
from textassay.console import warn
from textassay.evaluation.calibrate import Calibration
from textassay.evaluation.evaluate import Baseline, Evaluation, compare_with_baselines
from textassay.evaluation.learned import VALIDATED, Learning
from textassay.evaluation.outputs import facts_of_run, write_tested
from textassay.evaluation.plots import plot_learning_curves
from textassay.files import sha256_file, write_json
from textassay.training.setup import Setup


@dataclass
class Training:
    """What training came to: figures for `train_results.json`, the Trainer's log, the best."""

    figures: dict[str, Any]
    history: list[dict[str, Any]]
    checkpoint: Path | None


def write_validated(
    setup: Setup, trained: Training, validation: Evaluation, calibration: Calibration,
    learning: Learning | None,
) -> None:  # fmt: skip
    """What training, calibration and validation came to."""
    run = setup.run
    results = validation.to_json("eval")
    results["calibration"] = {**calibration.to_json(), **(results["calibration"] or {})}
    results["learning"] = learning.to_json() if learning else None
    write_json(run.path / VALIDATED, results)
    write_json(run.path / "label_mapping.json", setup.dataset.labels.to_json())
    metric = run.job.training.metric_for_best_model.removeprefix("eval_")
    plot_learning_curves(run.path / "learning_curves.png", trained.history, metric)
    write_json(run.path / "all_results.json", facts_of_run(run.path).figures)


def write_test_results(setup: Setup, tested: Evaluation) -> list[Baseline]:
    """What the artifact did on the test rows, beside the baselines, which are returned."""
    run = setup.run
    baselines: list[Baseline] = []
    notes: list[str] = []
    if run.job.evaluation.baselines:
        baselines, notes = compare_with_baselines(tested, setup.dataset.splits["train"])
    for note in notes:
        warn(note)
    stamp = {"hallmark": sha256_file(run.model_dir / FILE)}
    write_tested(run.path, tested, baselines, facts_of_run(run.path, notes), stamp)
    return baselines
