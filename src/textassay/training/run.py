"""The procedure of a whole run; the only place that knows the order of its steps."""

import datetime
import functools
import os
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import datasets
import transformers
from transformers import TrainerState

from textassay.artifacts.hallmark import FILE
from textassay.artifacts.kinds import Loaded, restore_weights, write_configs
from textassay.artifacts.zero.checkpoint import open_checkpoint
from textassay.artifacts.zero.consolidate import HALLMARK_FACTS
from textassay.artifacts.zero.publish import consolidate_whole
from textassay.config.runs import (
    PROVENANCE,
    Run,
    begin,
    emptied_on_failure,
    holding,
    preparing,
    refuse_directory,
)
from textassay.console import alarm, say
from textassay.data.split import sample
from textassay.errors import UsageError
from textassay.evaluation.calibrate import Calibration, calibrate
from textassay.evaluation.evaluate import Baseline, Evaluation, evaluate, stamped_figures
from textassay.evaluation.learned import Learning, refuse_unlearned
from textassay.evaluation.outputs import RESULTS
from textassay.evaluation.report import show, show_change, verdict
from textassay.files import read_object, sha256_file, write_json
from textassay.models import cpu
from textassay.stopping import stop_if_asked
from textassay.training.beside_teacher import stand_beside_teacher
from textassay.training.card import model_card
from textassay.training.carry_over import WEIGHTS, carry_over, is_part, newest_part
from textassay.training.checkpoints import (
    TRAINER_STATE,
    check_weights,
    find_best,
    find_checkpoint,
    is_over,
    named_checkpoint,
    newest_checkpoint,
    owes_evaluation,
    processes_of,
    store_relative_best,
    stored_best,
)
from textassay.training.distillation import DistillingTrainer
from textassay.training.final import publish_extras, refuse_final_directory
from textassay.training.inputs import is_left_alone
from textassay.training.interruption import AlreadyOver, OwedEvaluation
from textassay.training.learning import learning_of
from textassay.training.provenance import data_record, made_by
from textassay.training.publish import (
    publish,
    refuse_disagreement,
    refuse_other_loss,
    write_model,
)
from textassay.training.ranks import (
    is_main,
    path_from_main,
    refuse_lonely_launcher,
    together,
    wait_for_all,
    world_size,
)
from textassay.training.results import Training, write_test_results, write_validated
from textassay.training.setup import Setup, announce, assemble
from textassay.training.trainer import AssayTrainer, build_trainer
from textassay.training.zero import leave_deepspeed
from textassay.training.zero_trainer import MovementCheck, ZeroTrainer

TRAIN_RESULTS = "train_results.json"
# Validation rows that hold the saved model to the trained one, where the hallmark keeps none.
COMPARED_ROWS = 16


def carry_out(run: Run) -> None:
    """Carry out one run; GateError at its end where the model did not learn."""
    run_training(run)
    if is_main():
        refuse_unlearned(run.path, run.job.evaluation.allow_unlearned)


def run_training(run: Run) -> None:
    """Carry out one run, from its rows to a verified artifact and its report.

    A run that is finished is left alone; one that was killed goes on where its last checkpoint is.
    Of several processes the main one goes on alone once the weights are trained. What DeepSpeed
    has trained is tested by the evaluator.
    """
    if is_left_alone(run):
        return
    _quiet_libraries()
    refuse_lonely_launcher(run.job.launcher)
    refuse_directory(run)
    refuse_final_directory(run)
    named_checkpoint(run)
    with holding(run) if is_main() else nullcontext():
        _carry_out(run)


def _carry_out(run: Run) -> None:
    """The steps of a run, in a directory that no other process writes to."""
    setup = assemble(run)
    stop_if_asked()
    trained = _train(setup)
    if setup.is_zero:
        leave_deepspeed()
    if not is_main():
        return
    loaded, validated, calibration, learning = _publish(setup, trained)
    write_validated(setup, trained, validated, calibration, learning)
    publish_extras(run)
    tested = None if setup.is_zero else _evaluate(setup, loaded, "test")
    if tested and setup.distillation:
        stand_beside_teacher(run, setup.distillation.teacher, tested)
    baselines = write_test_results(setup, tested) if tested else []
    run.finish(
        {
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "hallmark": sha256_file(run.model_dir / FILE),
        }
    )
    if learning and learning.sentence:
        alarm(learning.sentence)
    _say_outcome(run, validated, calibration, tested, baselines)


def _train(setup: Setup) -> Training:
    """Train, or go on; the best weights end up in the model, or stay in ZeRO's checkpoint."""
    run = setup.run
    if run.job.training.is_zero_shot():
        return _leave_untrained(setup)
    rows = setup.rows()
    if setup.device.type == "cpu" and not setup.arguments.torch_compile:  # either, not both
        cpu.speed_up(setup.model, setup.precision)
    with emptied_on_failure(run) if is_main() else nullcontext():
        wait_for_all()
        start = path_from_main(functools.partial(_find_start, setup))
        if start and is_part(start):
            restore_weights(setup.model, start / WEIGHTS)
        trainer = _build(setup, rows)
        if is_main():
            if run.changed_measures():
                (run.path / RESULTS).unlink(missing_ok=True)
            begin(run, setup.inputs)
            write_json(run.path / PROVENANCE, setup.provenance)
    announce(setup)
    if start:
        say(f"resuming   from {start.name if not is_part(start) else start}")
    started = time.monotonic()
    with together():
        metrics = _train_on(setup, trainer, start)
        trainer.save_state()
    seconds = round(time.monotonic() - started, 2)
    best = trainer.state.best_model_checkpoint
    if is_main():
        store_relative_best(run.path)
    if best and not setup.is_zero:
        check_weights(Path(best))
        restore_weights(trainer.accelerator.unwrap_model(trainer.model), Path(best))
    figures = {"train_wall_seconds": seconds, **metrics}
    trained = _trained(setup, figures, trainer.state)
    metric, found = run.job.training.metric_for_best_model, trainer.state.best_metric
    say(f"best       {trained.figures['best_checkpoint']}, {metric} {found:.3f} on validation")
    return trained


def _train_on(setup: Setup, trainer: AssayTrainer, start: Path | None) -> dict[str, Any]:
    """Train from `start` on, unless that is the end already; the library's figures.

    In that case those of the training that has ended, where it came to write them.
    """
    if start and not is_part(start) and is_over(start):
        say("trained    to its end before")
        trainer.state = TrainerState.load_from_json(str(start / TRAINER_STATE))
        trainer.settle_best(start)
        if not setup.is_zero:
            restore_weights(setup.model, start)
        results = setup.run.path / TRAIN_RESULTS
        return read_object(results) if results.is_file() else {}
    if start and not is_part(start) and owes_evaluation(start):
        trainer.add_callback(OwedEvaluation(trainer, start))
    try:
        figures: dict[str, float] = trainer.train(
            resume_from_checkpoint=str(start) if start else None
        ).metrics
    except AlreadyOver:
        return _train_on(setup, trainer, start)
    return figures


def _find_start(setup: Setup) -> Path | None:
    """The checkpoint to go on from; or, of another number of processes, what was carried over."""
    run = setup.run
    checkpoint = find_checkpoint(run, setup.fingerprint)
    _refuse_other_weights(setup, checkpoint)
    if checkpoint is None:
        return newest_part(run) if setup.is_zero and not run.starts_again else None
    if not setup.is_zero:
        return checkpoint
    # Or DeepSpeed would unpickle without asking what may be hostile.
    opened = open_checkpoint(checkpoint)
    same = processes_of(checkpoint) == world_size()
    return checkpoint if same else carry_over(run, checkpoint, opened)


def _refuse_other_weights(setup: Setup, checkpoint: Path | None) -> None:
    """UsageError where a finished run would get other weights, since its checkpoints are gone.

    In a run that goes on it is only noted that its best checkpoint is gone.
    """
    run = setup.run
    best = find_best(run.path, checkpoint, setup.fingerprint) if checkpoint else None
    if run.is_finished() and not run.starts_again and not (checkpoint and best):
        key, (there, here) = next(iter(run.changed_measures().items()))
        raise UsageError(
            f"{run.path}: is finished, and its best checkpoint is gone, so it cannot be measured "
            f"and published again with {key} {here!r} instead of {there!r}. Train again in another "
            "--output_dir, or here with --force."
        )
    named = stored_best(checkpoint) if checkpoint else None
    if checkpoint and named and not best:
        setup.dataset.notes.append(
            f"{named}, the best checkpoint so far, is not in {run.path}: the best is sought anew "
            f"from {checkpoint.name} on"
        )


def _build(setup: Setup, rows: dict[str, datasets.Dataset]) -> AssayTrainer:
    run = setup.run
    trainer = build_trainer(
        setup.model, setup.tokenizer, rows, setup.arguments, run.job.training, setup.fingerprint,
        _trainer_class(setup),
    )  # fmt: skip
    if isinstance(trainer, DistillingTrainer):
        trainer.section = run.job.distillation
    if isinstance(trainer, ZeroTrainer):
        facts = {"texts": _probe_texts(setup), **_origin(setup)}  # once, not at every checkpoint
        trainer.beside = functools.partial(_write_beside, setup, facts)
        trainer.add_callback(MovementCheck())
    return trainer


def _trainer_class(setup: Setup) -> type[AssayTrainer]:
    if setup.distillation:
        return DistillingTrainer
    return ZeroTrainer if setup.is_zero else AssayTrainer


def _write_beside(setup: Setup, facts: dict[str, Any], folder: Path) -> None:
    """What the consolidator needs beside ZeRO's states to make an artifact of them."""
    write_configs(setup.model, folder)
    setup.tokenizer.save_pretrained(folder)
    write_json(folder / "label_mapping.json", setup.dataset.labels.to_json())
    write_json(folder / HALLMARK_FACTS, facts)


def _leave_untrained(setup: Setup) -> Training:
    """Zero-shot: the language model scores the labels as it is."""
    with preparing(setup.run, setup.inputs):
        write_json(setup.run.path / PROVENANCE, setup.provenance)
    announce(setup)
    say("zero-shot  nothing is trained")
    return _trained(setup, {}, TrainerState())


def _trained(setup: Setup, figures: dict[str, Any], state: TrainerState) -> Training:
    trainable, total = setup.parameters
    best = state.best_model_checkpoint
    figures = {
        **figures,
        "best_checkpoint": os.path.relpath(best, setup.run.path) if best else None,
        "best_metric": state.best_metric,
        "global_step": state.global_step,
        "train_rows": len(setup.dataset.splits["train"]),
        **({"unlabelled_rows": len(setup.distillation.unlabelled)} if setup.distillation else {}),
        "trainable_parameters": trainable,
        "all_parameters": total,
    }
    if is_main():
        write_json(setup.run.path / TRAIN_RESULTS, figures)
    return Training(figures, state.log_history, Path(best) if best else None)


def _publish(
    setup: Setup, trained: Training
) -> tuple[Loaded, Evaluation, Calibration, Learning | None]:
    """The artifact, calibrated and verified, and what it does on the validation rows."""
    validated: list[tuple[Evaluation, Calibration, Learning | None]] = []

    def describe(loaded: Loaded) -> dict[str, Any]:
        raw = _evaluate(setup, loaded, "validation")
        if setup.is_zero:  # the trained weights are in pieces: what they did has to do
            refuse_other_loss(checkpoint, raw, setup.precision)
        validated.append((*calibrate(raw), learning_of(setup, trained, raw)))
        return _hallmark_facts(setup, *validated[0])

    def write(folder: Path) -> None:
        if setup.is_zero:
            consolidate_whole(checkpoint, folder)
        else:
            write_model(folder, setup.model, setup.tokenizer, setup.dataset.labels)

    def check(loaded: Loaded) -> None:
        if not setup.is_zero:
            compared = texts or _validation_texts(setup, COMPARED_ROWS)
            refuse_disagreement(setup.model, loaded, compared, setup.precision)

    checkpoint = trained.checkpoint or newest_checkpoint(setup.run)
    texts = _probe_texts(setup)
    loaded = publish(setup.run.model_dir, write, check, texts, describe)
    return loaded, *validated[0]


def _probe_texts(setup: Setup) -> list[str]:
    """The rows of the validation split that the hallmark keeps."""
    rows = setup.run.job.evaluation.probe_rows
    return _validation_texts(setup, rows) if rows else []


def _validation_texts(setup: Setup, rows: int) -> list[str]:
    texts: list[str] = sample(setup.dataset.splits["validation"], rows, 0)["text"].to_pylist()
    return texts


def _evaluate(setup: Setup, loaded: Loaded, split: str) -> Evaluation:
    job = setup.run.job
    batch = job.training.per_device_eval_batch_size
    table = setup.dataset.splits[split]
    return evaluate(loaded, split, table, job.evaluation, batch, setup.device)


def _hallmark_facts(
    setup: Setup, validation: Evaluation, calibration: Calibration, learning: Learning | None
) -> dict[str, Any]:
    return {
        **_origin(setup),
        "validation": stamped_figures(len(validation.truth), validation.scores),
        "card": model_card(
            setup.run,
            setup.dataset,
            setup.base,
            validation,
            calibration,
            learning.sentence if learning else "",
        ),
        "temperature": calibration.temperature,
    }


def _origin(setup: Setup) -> dict[str, Any]:
    """What a hallmark says of base, data and maker."""
    return {
        "base": setup.base.describe(),
        "data": data_record(setup.dataset),
        "made_by": made_by(setup.provenance),
    }


def _say_outcome(
    run: Run,
    validated: Evaluation,
    calibration: Calibration,
    tested: Evaluation | None,
    baselines: list[Baseline],
) -> None:
    shown = [("test", tested.scores)] if tested else [("validation", validated.scores)]
    shown += [(baseline.name, baseline.scores) for baseline in baselines]
    for name, scores in shown:
        accuracy, macro_f1 = show(scores["accuracy"]), show(scores["macro_f1"])
        say(f"{name:<11}accuracy {accuracy}, macro-F1 {macro_f1}")
    changes = [f"{found.split} ece {show_change(found.calibrated, 'ece')}"
               for found in (validated, tested) if found and found.calibrated]  # fmt: skip
    outcome = f": {', '.join(changes)}" if changes else ""
    say(f"calibrated {calibration.sentence()}{outcome}")
    if tested:
        say(f"report     {run.path / 'report.html'}")
        say(f"verdict    {verdict(baselines, len(tested.truth))}")
    else:
        say(f"test       is the evaluator's: bash eval.sh {run.path}")


def _quiet_libraries() -> None:
    """The libraries' chatter would drown what matters; errors still come through."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
