"""The files of results on test rows: the same for a run and for the standalone evaluator."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textassay.config.runs import stored_config
from textassay.evaluation.evaluate import Baseline, Evaluation, write_predictions
from textassay.evaluation.metrics import NAMES, Score, confusions
from textassay.evaluation.plots import plot_confusion
from textassay.evaluation.report import Facts, verdict, write_run_report, write_test_summary
from textassay.files import read_json, write_json

RESULTS = "test_results.json"


def facts_of_run(folder: Path, notes: Sequence[str] = ()) -> Facts:
    """The facts that a run has written down: config, provenance, training, validation."""
    config = stored_config(folder)
    provenance = read_json(folder / "provenance.json")
    figures = read_json(folder / "train_results.json")
    evaluated = read_json(folder / "eval_results.json")
    data, rows = provenance["data"], provenance["data"]["rows"]
    model, method = config["model"]["model_name_or_path"], config["method"]["name"]
    labels = len(read_json(folder / "label_mapping.json")["label2id"])
    trainable, total = figures["trainable_parameters"], figures["all_parameters"]
    described = f"{data['name']}, {rows['train']:,} training rows"
    sizes = [f"{split} {count:,} rows" for split, count in rows.items()]
    intervals = evaluated["intervals"]
    curves = folder / "learning_curves.png"
    return Facts(
        title=f"{config['name']}, seed {config['seed']}",
        subtitle=f"{method} on {model}; {described}; {provenance['started'][:10]}",
        notes=[*sizes, f"{labels} labels", *data["notes"], *notes],
        provenance=_flat(provenance),
        trained={
            "share": f"{trainable / total:.2%}",
            "trainable": f"{trainable:,}",
            "parameters": f"{total:,}",
        },
        validation={name: Score(evaluated[f"eval_{name}"], *intervals[name]) for name in NAMES},
        validation_rows=evaluated["eval_rows"],
        figures={**figures, **_flat_figures(evaluated)},
        curves=curves if curves.is_file() else None,
    )


def write_tested(
    folder: Path,
    tested: Evaluation,
    baselines: Sequence[Baseline],
    facts: Facts,
    stamp: dict[str, Any],
) -> None:
    """Figures, predictions, pictures and reports; `stamp` says which artifact they belong to."""
    results = {
        **tested.to_json("test"),
        "baselines": [baseline.to_json() for baseline in baselines],
        "verdict": verdict(baselines, len(tested.truth)),
        **stamp,
    }
    write_predictions(folder / "predictions.parquet", tested)
    write_json(folder / "label_mapping.json", tested.labels.to_json())
    matrix = confusions(tested.truth, tested.predicted[None], len(tested.labels))[0]
    plot_confusion(folder / "confusion_matrix.png", matrix, tested.labels.names)
    write_test_summary(folder / "test_summary.txt", facts.title, tested, baselines, facts.notes)
    write_run_report(folder / "report.html", facts, tested, baselines)
    write_json(folder / "all_results.json", {**facts.figures, **_flat_figures(results)})
    write_json(folder / RESULTS, results)


def _flat_figures(results: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in results.items() if k.startswith(("eval_", "test_"))}


def _flat(provenance: dict[str, Any]) -> dict[str, str]:
    flat = {}
    for key, value in provenance.items():
        if isinstance(value, dict):
            parts = (f"{k} {v}" for k, v in value.items() if not isinstance(v, dict | list))
            flat[key] = ", ".join(parts)
        else:
            flat[key] = str(value)
    return {key: value for key, value in flat.items() if value}
