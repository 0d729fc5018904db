"""The files of results that a run leaves."""

from dataclasses import dataclass
from typing import Any

from textassay.artifacts.hallmark import FILE
from textassay.evaluation.evaluate import Evaluation, compare_with_baselines, write_predictions
from textassay.evaluation.metrics import confusions
from textassay.evaluation.plots import plot_confusion, plot_learning_curves
from textassay.evaluation.report import verdict, write_run_report, write_test_summary
from textassay.files import sha256_file, write_json
from textassay.training.setup import Setup, split_lines


@dataclass
class Training:
    """What training came to: figures for `train_results.json`, and the Trainer's log."""

    figures: dict[str, Any]
    history: list[dict[str, Any]]


def write_results(
    setup: Setup, trained: Training, validation: Evaluation, tested: Evaluation
) -> None:
    """Every file of results, for programs and for people."""
    run, dataset = setup.run, setup.dataset
    baselines = []
    if run.job.evaluation.baselines:
        baselines = compare_with_baselines(tested, dataset.splits["train"])
    eval_results = validation.to_json("eval")
    test_results = {
        **tested.to_json("test"),
        "baselines": [baseline.to_json() for baseline in baselines],
        "verdict": verdict(baselines, len(tested.truth)),
        "hallmark": sha256_file(run.model_dir / FILE),
    }
    flat = {k: v for k, v in {**eval_results, **test_results}.items()
            if k.startswith(("eval_", "test_"))}  # fmt: skip
    write_json(run.path / "eval_results.json", eval_results)
    write_json(run.path / "test_results.json", test_results)
    write_json(run.path / "all_results.json", {**trained.figures, **flat})
    write_json(run.path / "label_mapping.json", dataset.labels.to_json())
    write_predictions(run.path / "predictions.parquet", tested)
    matrix = confusions(tested.truth, tested.predicted[None], len(dataset.labels))[0]
    plot_confusion(run.path / "confusion_matrix.png", matrix, dataset.labels.names)
    metric = run.job.training.metric_for_best_model.removeprefix("eval_")
    plot_learning_curves(run.path / "learning_curves.png", trained.history, metric)
    notes = [*split_lines(dataset), *dataset.notes]
    write_test_summary(
        run.path / "test_summary.txt", f"{run.job.name}, seed {run.seed}", tested, baselines, notes
    )
    facts = _facts(setup, notes)
    write_run_report(run.path / "report.html", facts, tested, validation, baselines)


def _facts(setup: Setup, notes: list[str]) -> dict[str, Any]:
    """The head of the report."""
    run, dataset = setup.run, setup.dataset
    trainable, total = setup.parameters
    return {
        "name": run.job.name,
        "seed": run.seed,
        "method": run.job.method.name,
        "model": run.job.model.model_name_or_path,
        "data": f"{dataset.name}, {len(dataset.splits['train']):,} training rows",
        "date": setup.provenance["started"][:10],
        "trainable": f"{trainable:,}",
        "parameters": f"{total:,}",
        "trainable_share": f"{trainable / total:.2%}",
        "data_lines": notes,
        "provenance": _flat(setup.provenance),
    }


def _flat(provenance: dict[str, Any]) -> dict[str, str]:
    flat = {}
    for key, value in provenance.items():
        if isinstance(value, dict):
            parts = (f"{k} {v}" for k, v in value.items() if not isinstance(v, dict | list))
            flat[key] = ", ".join(parts)
        else:
            flat[key] = str(value)
    return {key: value for key, value in flat.items() if value}
