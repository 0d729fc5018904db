"""The procedure of a whole run; the only place that knows the order of its steps."""

import datetime
import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

from textassay.artifacts.hallmark import FILE
from textassay.artifacts.kinds import Loaded, restore_weights
from textassay.config.runs import Run, preparing, refuse_directory
from textassay.console import say, warn
from textassay.data.encode import encode
from textassay.data.load import Dataset, load_dataset
from textassay.data.prompt import Prompt
from textassay.data.split import sample
from textassay.evaluation.evaluate import (
    Evaluation,
    compare_with_baselines,
    evaluate,
    write_predictions,
)
from textassay.evaluation.metrics import confusions
from textassay.evaluation.plots import plot_confusion, plot_learning_curves
from textassay.evaluation.report import show, verdict, write_run_report, write_test_summary
from textassay.files import sha256_file, write_json
from textassay.models import cpu
from textassay.models.classifier import build_classifier, count_parameters
from textassay.models.device import find_device, find_precision
from textassay.models.methods import attach
from textassay.models.source import Source, find_model
from textassay.training.arguments import training_arguments
from textassay.training.card import model_card
from textassay.training.checkpoints import find_checkpoint, named_checkpoint
from textassay.training.provenance import data_record, describe_run, made_by
from textassay.training.publish import publish
from textassay.training.trainer import AssayTrainer, build_trainer


def run_training(run: Run) -> None:
    """Carry out one run, from its rows to a verified artifact and its report.

    A run that is finished is left alone; one that was killed goes on where its last checkpoint is.
    """
    if run.is_finished() and not run.force:
        say(f"{run.path} is finished; --force runs it again")
        return
    _quiet_libraries()
    refuse_directory(run)
    named_checkpoint(run)
    device = find_device(run.job.resources.device)
    precision = find_precision(run.job.training.precision, device)
    arguments = training_arguments(run, device, precision)
    base = find_model(run.job.model.model_name_or_path, run.job.model.revision)
    dataset = load_dataset(run.job.data)
    transformers.set_seed(run.seed)
    template = run.job.data.prompt
    prompt = Prompt.from_template(template, dataset.labels.names) if template else None
    built = build_classifier(base, dataset.labels, run.job.model.max_seq_length, prompt)
    model = attach(built, run.job.method, base.name)
    rows = {
        split: encode(dataset.splits[split], built.tokenizer, dataset.labels,
                      run.job.model.max_seq_length, prompt)
        for split in ("train", "validation")
    }  # fmt: skip
    provenance = describe_run(run, dataset, base, device, precision)
    parameters = count_parameters(model)
    if device.type == "cpu":
        cpu.speed_up(model, precision)
    with preparing(run):
        trainer = build_trainer(
            model, built.tokenizer, rows, arguments, run.job.training, run.fingerprint()
        )
        write_json(run.path / "provenance.json", provenance)
    _announce(run, dataset, base, device, precision, parameters)
    trained = _train(run, trainer, parameters, len(rows["train"]))

    probe = sample(dataset.splits["validation"], run.job.evaluation.probe_rows, 0)
    probe_texts = probe["text"].to_pylist() if run.job.evaluation.probe_rows else []
    validated: list[Evaluation] = []

    def describe(loaded: Loaded) -> dict[str, Any]:
        validated.append(_evaluate(run, loaded, "validation", dataset, device))
        return _hallmark_facts(run, dataset, base, provenance, validated[0])

    loaded = publish(
        run.model_dir, model, built.tokenizer, dataset.labels, probe_texts, precision, describe
    )
    tested = _evaluate(run, loaded, "test", dataset, device)
    _report(run, dataset, provenance, trainer, trained, validated[0], tested)
    run.finish(
        {
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "hallmark": sha256_file(run.model_dir / FILE),
        }
    )
    say(f"test       accuracy {show(tested.scores['accuracy'])}, "
        f"macro-F1 {show(tested.scores['macro_f1'])}")  # fmt: skip
    say(f"report     {run.path / 'report.html'}")


def _train(
    run: Run, trainer: AssayTrainer, parameters: tuple[int, int], rows: int
) -> dict[str, Any]:
    """Train, or go on; put the best checkpoint's weights into the model; the training figures."""
    checkpoint = find_checkpoint(run)
    if checkpoint:
        say(f"resuming   from {checkpoint.name}")
    started = time.monotonic()
    outcome = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_state()
    best = trainer.state.best_model_checkpoint
    if best:
        restore_weights(trainer.accelerator.unwrap_model(trainer.model), Path(best))
    figures = {
        **outcome.metrics,
        "train_rows": rows,
        "train_wall_seconds": round(time.monotonic() - started, 2),
        "best_checkpoint": Path(best).name if best else None,
        "best_metric": trainer.state.best_metric,
        "global_step": trainer.state.global_step,
        "trainable_parameters": parameters[0],
        "all_parameters": parameters[1],
    }
    write_json(run.path / "train_results.json", figures)
    say(f"best       {figures['best_checkpoint']}, {run.job.training.metric_for_best_model} "
        f"{trainer.state.best_metric:.3f} on validation")  # fmt: skip
    return figures


def _evaluate(
    run: Run, loaded: Loaded, split: str, dataset: Dataset, device: torch.device
) -> Evaluation:
    return evaluate(
        loaded,
        split,
        dataset.splits[split],
        run.job.evaluation,
        run.job.training.per_device_eval_batch_size,
        device,
    )


def _hallmark_facts(
    run: Run, dataset: Dataset, base: Source, provenance: dict[str, Any], validation: Evaluation
) -> dict[str, Any]:
    macro = validation.scores["macro_f1"]
    return {
        "base": {"name": base.name, "weights": provenance["base"]["weights"]},
        "data": data_record(dataset),
        "made_by": made_by(provenance),
        "validation": {
            "rows": len(validation.truth),
            "macro_f1": [macro.value, macro.low, macro.high],
        },
        "card": model_card(run, dataset, base, validation),
    }


def _report(
    run: Run,
    dataset: Dataset,
    provenance: dict[str, Any],
    trainer: AssayTrainer,
    trained: dict[str, Any],
    validation: Evaluation,
    tested: Evaluation,
) -> None:
    """Every file of results, for programs and for people."""
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
    write_json(run.path / "all_results.json", {**trained, **flat})
    write_json(run.path / "label_mapping.json", dataset.labels.to_json())
    write_predictions(run.path / "predictions.parquet", tested)
    matrix = confusions(tested.truth, tested.predicted[None], len(dataset.labels))[0]
    plot_confusion(run.path / "confusion_matrix.png", matrix, dataset.labels.names)
    metric = run.job.training.metric_for_best_model.removeprefix("eval_")
    plot_learning_curves(run.path / "learning_curves.png", trainer.state.log_history, metric)
    notes = [*_split_lines(dataset), *dataset.notes]
    write_test_summary(
        run.path / "test_summary.txt", f"{run.job.name}, seed {run.seed}", tested, baselines, notes
    )
    facts = {
        "name": run.job.name,
        "seed": run.seed,
        "method": run.job.method.name,
        "model": run.job.model.model_name_or_path,
        "data": f"{dataset.name}, {len(dataset.splits['train']):,} training rows",
        "date": provenance["started"][:10],
        "trainable": f"{trained['trainable_parameters']:,}",
        "parameters": f"{trained['all_parameters']:,}",
        "trainable_share": f"{trained['trainable_parameters'] / trained['all_parameters']:.2%}",
        "data_lines": notes,
        "provenance": _flat(provenance),
    }
    write_run_report(run.path / "report.html", facts, tested, validation, baselines)


def _announce(
    run: Run,
    dataset: Dataset,
    base: Source,
    device: torch.device,
    precision: str,
    parameters: tuple[int, int],
) -> None:
    trainable, total = parameters
    say(f"run        {run.path}")
    say(f"data       {dataset.name}: {'; '.join(_split_lines(dataset))}")
    for note in dataset.notes:
        warn(note)
    say(f"model      {base.name} ({base.origin})")
    say(f"method     {run.job.method.name}: {trainable:,} of {total:,} parameters train "
        f"({trainable / total:.4%})")  # fmt: skip
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    say(f"device     {device.type}, {precision}{threads}")


def _split_lines(dataset: Dataset) -> list[str]:
    sizes = [f"{split} {len(table):,} rows" for split, table in dataset.splits.items()]
    return [*sizes, f"{len(dataset.labels)} labels"]


def _flat(provenance: dict[str, Any]) -> dict[str, str]:
    flat = {}
    for key, value in provenance.items():
        if isinstance(value, dict):
            parts = (f"{k} {v}" for k, v in value.items() if not isinstance(v, dict | list))
            flat[key] = ", ".join(parts)
        else:
            flat[key] = str(value)
    return {key: value for key, value in flat.items() if value}


def _quiet_libraries() -> None:
    """The libraries' chatter would drown what matters; errors still come through."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
