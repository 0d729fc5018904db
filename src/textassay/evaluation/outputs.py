"""The files of results on test rows: the same for a run and for the standalone evaluator."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from textassay.config.runs import PROVENANCE, stored_config
from textassay.console import counted
from textassay.errors import GateError, TextassayError, first_line
from textassay.evaluation.calibrate import Calibration
from textassay.evaluation.evaluate import (
    PREDICTIONS,
    Baseline,
    Calibrated,
    Evaluation,
    write_predictions,
)
from textassay.evaluation.gains import Gain
from textassay.evaluation.learned import stored_learning
from textassay.evaluation.metrics import NAMES, Score, confusions
from textassay.evaluation.plots import plot_confusion, plot_reliability
from textassay.evaluation.report import (
    Facts,
    show,
    show_gain,
    verdict,
    write_run_report,
    write_test_summary,
)
from textassay.files import read_object, write_json
from textassay.models.probabilities import softmax

RESULTS = "test_results.json"
# What a distilled run writes of its teacher, on the same test rows.
TEACHER = "teacher.json"


def facts_of_run(folder: Path, notes: Sequence[str] = ()) -> Facts:
    """The facts that a run has written down: config, provenance, training, validation.

    GateError where its files are not what a run writes.
    """
    try:
        return _read_facts(folder, notes)
    except TextassayError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise GateError(
            f"{folder}: what the run has written of itself cannot be read ({type(error).__name__}: "
            f"{first_line(error)[:200]}); its {PROVENANCE}, train_results.json or "
            "eval_results.json was changed, or another version wrote it."
        ) from None


def _read_facts(folder: Path, notes: Sequence[str]) -> Facts:
    config = stored_config(folder)
    provenance = read_object(folder / PROVENANCE)
    figures = read_object(folder / "train_results.json")
    evaluated = read_object(folder / "eval_results.json")
    data, rows = provenance["data"], provenance["data"]["rows"]
    model, method = config["model"]["model_name_or_path"], config["method"]["name"]
    labels = len(read_object(folder / "label_mapping.json")["label2id"])
    trainable, total = figures["trainable_parameters"], figures["all_parameters"]
    described = f"{data['name']}, {rows['train']:,} training rows"
    sizes = [f"{split} {counted(count, 'row')}" for split, count in rows.items()]
    intervals = evaluated["intervals"]
    fitted = evaluated.get("calibration")  # an earlier version's run has none
    curves = folder / "learning_curves.png"
    return Facts(
        title=f"{config['name']}, seed {config['seed']}",
        subtitle=f"{method} on {model}; {described}; {provenance['started'][:10]}",
        notes=[
            *sizes,
            f"{counted(labels, 'label')}",
            *data["notes"],
            *_beside_teacher(folder),
            *notes,
        ],
        provenance=_flat(provenance),
        trained={
            "share": f"{trainable / total:.2%}",
            "trainable": f"{trainable:,}",
            "parameters": f"{total:,}",
        },
        validation={name: Score(evaluated[f"eval_{name}"], *intervals[name]) for name in NAMES},
        validation_rows=evaluated["eval_rows"],
        calibration=Calibration.from_json(fitted).sentence() if fitted else "no",
        validation_calibrated=(
            Calibrated.from_json(fitted) if fitted and fitted["temperature"] else None
        ),
        figures={**figures, **_flat_figures(evaluated)},
        curves=curves if curves.is_file() else None,
        alarm=learning.sentence if (learning := stored_learning(folder)) else "",
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
        "verdict": verdict(baselines, len(tested.truth), facts.without_baselines),
        **stamp,
    }
    write_predictions(folder / PREDICTIONS, tested, baselines)
    write_json(folder / "label_mapping.json", tested.labels.to_json())
    matrix = confusions(tested.truth, tested.predicted[None], len(tested.labels))[0]
    plot_confusion(folder / "confusion_matrix.png", matrix, tested.labels.names)
    plot_reliability(
        folder / "reliability.png", tested.truth, _panels(tested), tested.settings.confidence
    )
    write_test_summary(folder / "test_summary.txt", facts, tested, baselines)
    write_run_report(folder / "report.html", facts, tested, baselines)
    write_json(folder / "all_results.json", {**facts.figures, **_flat_figures(results)})
    write_json(folder / RESULTS, results)


def _panels(tested: Evaluation) -> dict[str, np.ndarray]:
    """The probabilities that the reliability diagram shows, by title."""
    after, made = tested.probabilities, tested.calibrated
    if made is None:
        return {f"not calibrated, ece {show(tested.scores['ece'])}": after}
    return {
        f"before, ece {show(made.before['ece'])}": softmax(tested.logits),
        f"after, ece {show(made.after['ece'])}": after,
    }


def _beside_teacher(folder: Path) -> list[str]:
    """What a student came to beside its teacher, in two sentences."""
    if not (folder / TEACHER).is_file():
        return []
    facts = read_object(folder / TEACHER)
    teacher, student = facts["teacher"], facts["student"]
    taught = Score(**teacher["scores"]["macro_f1"])
    behind = Gain(**facts["student_minus_teacher"]["macro_f1"])
    return [
        f"teacher: {teacher['name']}, test macro-F1 {show(taught)}, {teacher['megabytes']:,.0f} "
        f"MB, {teacher['texts_per_second']:,.0f} texts a second",
        f"student: macro-F1 {show_gain(behind)} from the teacher's on the same "
        f"{counted(facts['rows'], 'row')}, {student['megabytes']:,.0f} MB, "
        f"{student['texts_per_second']:,.0f} texts a second",
    ]


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
