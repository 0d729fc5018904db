"""The procedure of a whole run; the only place that knows the order of its steps."""

import datetime
import os
import time
import warnings
from pathlib import Path
from typing import Any

import transformers

from textassay.artifacts.hallmark import FILE
from textassay.artifacts.kinds import Loaded, restore_weights
from textassay.config.runs import Run, preparing, refuse_directory
from textassay.console import say
from textassay.data.split import sample
from textassay.evaluation.evaluate import Evaluation, evaluate
from textassay.evaluation.report import show
from textassay.files import sha256_file, write_json
from textassay.models import cpu
from textassay.training.card import model_card
from textassay.training.checkpoints import find_checkpoint, named_checkpoint
from textassay.training.final import publish_extras, refuse_final_directory
from textassay.training.provenance import data_record, made_by
from textassay.training.publish import publish
from textassay.training.results import Training, write_results
from textassay.training.setup import Setup, announce, assemble
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
    refuse_final_directory(run)
    named_checkpoint(run)
    setup = assemble(run)
    trained = _train(setup)
    loaded, validated = _publish(setup)
    tested = _evaluate(setup, loaded, "test")
    write_results(setup, trained, validated, tested)
    publish_extras(run)
    run.finish(
        {
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "hallmark": sha256_file(run.model_dir / FILE),
        }
    )
    say(f"test       accuracy {show(tested.scores['accuracy'])}, "
        f"macro-F1 {show(tested.scores['macro_f1'])}")  # fmt: skip
    say(f"report     {run.path / 'report.html'}")


def _train(setup: Setup) -> Training:
    """Train, or go on; put the best checkpoint's weights into the model."""
    run = setup.run
    if run.job.training.is_zero_shot():
        return _leave_untrained(setup)
    rows = {split: setup.encoded(split) for split in ("train", "validation")}
    if setup.device.type == "cpu":
        cpu.speed_up(setup.model, setup.precision)
    with preparing(run):
        trainer = build_trainer(
            setup.model, setup.tokenizer, rows, setup.arguments, run.job.training, run.fingerprint()
        )
        write_json(run.path / "provenance.json", setup.provenance)
    announce(setup)
    checkpoint = find_checkpoint(run)
    if checkpoint:
        say(f"resuming   from {checkpoint.name}")
    started = time.monotonic()
    outcome = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_state()
    seconds = round(time.monotonic() - started, 2)
    figures = {**outcome.metrics, "train_wall_seconds": seconds, **_restore_best(trainer)}
    say(f"best       {figures['best_checkpoint']}, {run.job.training.metric_for_best_model} "
        f"{trainer.state.best_metric:.3f} on validation")  # fmt: skip
    return _trained(setup, figures, trainer.state.log_history)


def _leave_untrained(setup: Setup) -> Training:
    """Zero-shot: the language model scores the labels as it is."""
    with preparing(setup.run):
        write_json(setup.run.path / "provenance.json", setup.provenance)
    announce(setup)
    say("zero-shot  nothing is trained")
    return _trained(setup, {"best_checkpoint": None, "best_metric": None, "global_step": 0}, [])


def _restore_best(trainer: AssayTrainer) -> dict[str, Any]:
    best = trainer.state.best_model_checkpoint
    if best:
        restore_weights(trainer.accelerator.unwrap_model(trainer.model), Path(best))
    return {
        "best_checkpoint": Path(best).name if best else None,
        "best_metric": trainer.state.best_metric,
        "global_step": trainer.state.global_step,
    }


def _trained(setup: Setup, figures: dict[str, Any], history: list[dict[str, Any]]) -> Training:
    trainable, total = setup.parameters
    figures = {
        **figures,
        "train_rows": len(setup.dataset.splits["train"]),
        "trainable_parameters": trainable,
        "all_parameters": total,
    }
    write_json(setup.run.path / "train_results.json", figures)
    return Training(figures, history)


def _publish(setup: Setup) -> tuple[Loaded, Evaluation]:
    """The artifact, verified, and what it does on the validation rows."""
    run, validation = setup.run, setup.dataset.splits["validation"]
    rows = run.job.evaluation.probe_rows
    texts = sample(validation, rows, 0)["text"].to_pylist() if rows else []
    validated: list[Evaluation] = []

    def describe(loaded: Loaded) -> dict[str, Any]:
        validated.append(_evaluate(setup, loaded, "validation"))
        return _hallmark_facts(setup, validated[0])

    loaded = publish(
        run.model_dir, setup.model, setup.tokenizer, setup.dataset.labels, texts, setup.precision,
        describe,
    )  # fmt: skip
    return loaded, validated[0]


def _evaluate(setup: Setup, loaded: Loaded, split: str) -> Evaluation:
    job = setup.run.job
    batch = job.training.per_device_eval_batch_size
    table = setup.dataset.splits[split]
    return evaluate(loaded, split, table, job.evaluation, batch, setup.device)


def _hallmark_facts(setup: Setup, validation: Evaluation) -> dict[str, Any]:
    macro = validation.scores["macro_f1"]
    return {
        "base": {"name": setup.base.name, "weights": setup.provenance["base"]["weights"]},
        "data": data_record(setup.dataset),
        "made_by": made_by(setup.provenance),
        "validation": {
            "rows": len(validation.truth),
            "macro_f1": [macro.value, macro.low, macro.high],
        },
        "card": model_card(setup.run, setup.dataset, setup.base, validation),
    }


def _quiet_libraries() -> None:
    """The libraries' chatter would drown what matters; errors still come through."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
