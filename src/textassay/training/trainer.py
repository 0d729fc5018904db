"""The transformers Trainer with our order of rows, our loss, our files and our best checkpoint."""

import functools
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from safetensors import SafetensorError
from torch.utils.data import SequentialSampler
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import IntervalStrategy

from textassay.artifacts.kinds import restore_weights, save_weights
from textassay.config.schema import TrainingSection
from textassay.console import rank
from textassay.data.encode import NO_LABEL
from textassay.errors import TextassayError, UsageError, first_line
from textassay.evaluation.metrics import point_scores
from textassay.files import replacing
from textassay.locking import refuse_if_lost
from textassay.models.predict import pad_batch
from textassay.training import ranks
from textassay.training.checkpoints import (
    TRAINER_STATE,
    check_weights,
    find_best,
    mark_complete,
    rotate,
    store_relative_best,
    take_along,
)
from textassay.training.interruption import EvaluationCut, StopRule
from textassay.training.progress import ProgressDisplay
from textassay.training.sampler import EpochSampler
from textassay.training.teacher import TEACHER_LOGITS

# What torch says where a file takes no more.
TORCH_CANNOT_WRITE = re.compile(r"write|writing|inline_container|No space left", re.IGNORECASE)


class AssayTrainer(Trainer):
    """What differs from the library, each for the reason beside it."""

    def __init__(self, *args: Any, sampler: EpochSampler, keep: int, run_id: str, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._sampler = sampler
        self._keep = keep
        self._run_id = run_id
        self._owes_evaluation = False

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        """Ours, since the library's cannot resume exactly."""
        return self._sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> SequentialSampler:
        """The rows come sorted by length already; the library would sort them anew each time."""
        return SequentialSampler(eval_dataset)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> torch.utils.data.DataLoader[Any]:
        """With every row: an incomplete batch may be dropped in training, not from a score."""
        drops_last = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = False
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.args.dataloader_drop_last = drops_last

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Save whenever an evaluation is the best so far, or the best would be lost.

        Of equal ones the one with the lower loss is better: on few rows many are equal.
        """
        best = super()._determine_best_metric(metrics, trial)
        if not best and self._ties_with_lower_loss(metrics):
            self.state.best_global_step = self.state.global_step
            best = True
        if best:
            self.control.should_save = True
        return best

    def _ties_with_lower_loss(self, metrics: dict[str, float]) -> bool:
        if metrics[f"eval_{self.args.metric_for_best_model}"] != self.state.best_metric:
            return False
        best = self.state.best_global_step
        losses = [entry["eval_loss"] for entry in self.state.log_history
                  if entry["step"] == best and "eval_loss" in entry]  # fmt: skip
        return bool(losses) and metrics["eval_loss"] < losses[-1]

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: the library walks all modules for it at every step."""
        return 0

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """One way to write weights, for checkpoints and artifacts alike."""
        save_weights(self.accelerator.unwrap_model(self.model), Path(output_dir or ""))

    def _maybe_log_save_evaluate(self, *given: Any, **named: Any) -> None:
        """An evaluation may be cut short by a signal: then the checkpoint owes it."""
        try:
            super()._maybe_log_save_evaluate(*given, **named)
        except EvaluationCut:
            self._owes_evaluation = True
            self.control.should_evaluate = False
            self._save_checkpoint(self.model, None)
            self.callback_handler.on_save(self.args, self.state, self.control)

    def evaluate_for(self, checkpoint: Path) -> None:
        """Make the evaluation that `checkpoint` owes, and write into it what comes of that.

        Its weights, optimizer and random numbers are those of its step and stay as they are.
        """
        metrics = self._evaluate(None, None)
        if self._determine_best_metric(metrics, None):
            self.state.best_model_checkpoint = str(checkpoint)
        self.control.should_save = False
        if not ranks.is_main():
            return
        for one in [*self.callback_handler.callbacks, self.control]:
            if isinstance(one, ExportableState):
                self.state.stateful_callbacks[type(one).__name__] = one.state()
        with replacing(checkpoint / TRAINER_STATE) as scratch:
            self.state.save_to_json(str(scratch))
        store_relative_best(checkpoint)
        mark_complete(checkpoint, self._run_id, ranks.world_size(), self._log_loss())

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """A checkpoint counts once its marker is written, and only then may older ones go."""
        folder = Path(self.args.output_dir)
        refuse_if_lost()
        self._refuse_lost_numbers(f"step {self.state.global_step}")
        written = folder / f"checkpoint-{self.state.global_step}"
        with _reporting_full_disk(written):
            super()._save_checkpoint(model, trial)
            ranks.wait_for_all()
            if not ranks.is_main():
                return
            store_relative_best(written)
            processes, loss = ranks.world_size(), self._log_loss()
            mark_complete(written, self._run_id, processes, loss, self._owes_evaluation)
        best = self.state.best_model_checkpoint
        rotate(folder, self._keep, Path(best) if best else None)

    def _log_loss(self) -> float | None:
        """That on the validation rows, if they were evaluated at this very step."""
        step = self.state.global_step
        found = [entry["eval_log_loss"] for entry in self.state.log_history
                 if entry["step"] == step and "eval_log_loss" in entry]  # fmt: skip
        return found[-1] if found else None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Strictly: every tensor must find its place, and hold numbers."""
        check_weights(Path(resume_from_checkpoint))
        restore_weights(self.accelerator.unwrap_model(self.model), Path(resume_from_checkpoint))
        self._refuse_lost_numbers(resume_from_checkpoint)

    def _init_training_state(
        self, max_steps: int, num_update_steps_per_epoch: int, num_train_epochs: int,
        resume_from_checkpoint: Any, trial: Any,
    ) -> Any:  # fmt: skip
        """The library would take the best checkpoint from where it once was."""
        places = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if resume_from_checkpoint:
            self.settle_best(Path(resume_from_checkpoint))
        return places

    def settle_best(self, start: Path) -> None:
        """Point the state, read from `start`, at the best checkpoint inside the run.

        If that is not there, the best is sought anew, from `start` on.
        """
        run = Path(self.args.output_dir)
        best = find_best(run, start, self._run_id)
        if best:
            if ranks.is_main():
                take_along(best, run)
            ranks.wait_for_all()
            inside = best.resolve().is_relative_to(run.resolve())
            self.state.best_model_checkpoint = str(best if inside else run / best.name)
            return
        metric = f"eval_{self.args.metric_for_best_model}"
        evaluated = [entry[metric] for entry in self.state.log_history
                     if entry["step"] == self.state.global_step and metric in entry]  # fmt: skip
        self.state.best_metric = evaluated[-1] if evaluated else None
        self.state.best_global_step = self.state.global_step if evaluated else None
        self.state.best_model_checkpoint = str(start) if evaluated else None

    def _refuse_lost_numbers(self, where: str) -> None:
        """TextassayError where a trained weight is infinite or no number, in any process."""
        weights = [_own_numbers(p) for p in self.model.parameters() if p.requires_grad]
        if ranks.any_of_us(not all(bool(w.isfinite().all()) for w in weights)):
            raise TextassayError(_lost(f"{where}: the weights are not numbers any more"))


class RunRules(TrainerCallback):
    """The epoch reaches the sampler, the last step is evaluated, and a lost loss stops the run.

    A checkpoint at the end of an epoch waits for the evaluation there, so that resuming from it
    misses neither its figures nor that it stopped the training.
    """

    def __init__(self, sampler: EpochSampler) -> None:
        self._sampler = sampler
        self._owes_checkpoint = False

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The library does not hand the epoch to a sampler when it skips batches on resume."""
        self._sampler.set_epoch(int(state.epoch or 0))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Evaluate and save at the end, wherever the last evaluation was."""
        if state.global_step >= state.max_steps and args.eval_strategy == IntervalStrategy.STEPS:
            control.should_evaluate = True
            control.should_save = True
        by_epoch = args.eval_strategy == IntervalStrategy.EPOCH
        if control.should_save and by_epoch and float(state.epoch or 0).is_integer():
            control.should_save = False
            self._owes_checkpoint = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The checkpoint that waited; it is written behind the evaluation."""
        if self._owes_checkpoint:
            control.should_save = True
            self._owes_checkpoint = False

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """A loss that is not a number never becomes one again."""
        if logs and "loss" in logs and not np.isfinite(float(logs["loss"])):
            raise TextassayError(
                _lost(f"step {state.global_step}: the loss is not a number any more")
            )


def build_trainer(
    model: Any,
    tokenizer: Any,
    rows: dict[str, datasets.Dataset],
    arguments: TrainingArguments,
    training: TrainingSection,
    run_id: str,
    trainer_class: type[AssayTrainer] = AssayTrainer,
) -> AssayTrainer:
    """A trainer for tokenised `train` and `validation` rows, its optimizer and loader made.

    Raises UsageError for settings that the library notices only now.
    """
    with _refusing(arguments, training):
        train, validation = rows["train"], rows["validation"]
        lengths = train.data["length"].to_pylist()
        batch = arguments.per_device_train_batch_size * max(1, arguments.n_gpu)
        seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
        sampler = EpochSampler(lengths, batch, seed, training.train_sampling_strategy)
        by_length = np.argsort([-n for n in validation.data["length"].to_pylist()], kind="stable")
        callbacks: list[Any] = [
            StopRule(), RunRules(sampler), ProgressDisplay(arguments.metric_for_best_model)
        ]  # fmt: skip
        if training.early_stopping_patience is not None:
            callbacks.append(
                EarlyStoppingCallback(
                    training.early_stopping_patience, training.early_stopping_threshold
                )
            )
        trainer = trainer_class(
            model=model,
            args=arguments,
            train_dataset=train,
            eval_dataset=validation.select(by_length),
            # Not a function in a function, which a worker that is spawned could not be sent.
            data_collator=functools.partial(collate, tokenizer.pad_token_id),
            compute_metrics=lambda found: _scores(found.label_ids, _plain(found.predictions)),
            compute_loss_func=loss_function(class_weights(train, training), arguments),
            callbacks=callbacks,
            sampler=sampler,
            keep=training.save_total_limit,
            run_id=run_id,
        )
        _drop_default_printer(trainer)
        trainer.create_optimizer()
        trainer.get_train_dataloader()
        return trainer


@contextmanager
def _refusing(arguments: TrainingArguments, training: TrainingSection) -> Iterator[None]:
    """What the libraries raise for settings that do not work, as a UsageError."""
    try:
        yield
    except (ImportError, RuntimeError, ValueError) as error:
        first = first_line(error)[:300]
        raise UsageError(
            f"training: transformers refuses these settings (report_to {training.report_to}, optim "
            f"{arguments.optim}, {arguments.dataloader_num_workers} dataloader workers): {first}"
        ) from None


def collate(pad_id: int, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows to a batch, padded to its longest, with a teacher's logits where there are any."""
    batch = pad_batch([row["input_ids"] for row in rows], pad_id)
    batch["labels"] = torch.tensor([row["labels"] for row in rows])
    if TEACHER_LOGITS in rows[0]:
        batch[TEACHER_LOGITS] = torch.tensor([row[TEACHER_LOGITS] for row in rows])
    return batch


def class_weights(train: datasets.Dataset, training: TrainingSection) -> torch.Tensor | None:
    """A weight for each label, shape [labels], or None where all rows weigh the same."""
    if training.class_weights == "none":
        return None
    labels = train.data["labels"].to_numpy()
    counts = np.bincount(labels[labels != NO_LABEL])
    return torch.tensor(counts.sum() / (len(counts) * counts), dtype=torch.float32)


def loss_function(
    weights: torch.Tensor | None, arguments: TrainingArguments
) -> Callable[..., torch.Tensor]:
    """Cross entropy as the exact mean over the rows of an optimizer step, in fp32.

    A row without a label counts as one, and adds nothing.
    With accumulation the library passes the step's rows as `num_items_in_batch`; a mean of batch
    means would weigh the rows of a small last batch more.
    """

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        logits = outputs.logits.float()
        total = torch.nn.functional.cross_entropy(
            logits,
            labels,
            weight=None if weights is None else weights.to(logits.device),
            ignore_index=NO_LABEL,
            label_smoothing=arguments.label_smoothing_factor,
            reduction="sum",
        )
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return loss


@contextmanager
def _reporting_full_disk(checkpoint: Path) -> Iterator[None]:
    """What the libraries raise for a checkpoint that cannot be written, as one of our errors.

    What was written of it takes space that is lacking, and is removed.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, RuntimeError) and not TORCH_CANNOT_WRITE.search(str(error)):
            raise
        shutil.rmtree(checkpoint, ignore_errors=True)
        raise TextassayError(
            f"{checkpoint}: cannot be written ({_why_unwritten(error)}); free space, or let the "
            "run go on elsewhere: copy its directory and name that with --output_dir. The same "
            "command goes on from the checkpoint before."
        ) from None


def _why_unwritten(error: Exception) -> str:
    """The system's word; torch, whose writer knows none, says at which byte it stood."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, RuntimeError):
        return "no space left on the device, or none that you may use"
    return first_line(error)[:200]


def _own_numbers(parameter: Any) -> torch.Tensor:
    """A weight; under ZeRO's stage 3 the piece of it that this process has.

    All pieces are of one size, and nothing fills what the last one has behind the weight's end.
    """
    piece = getattr(parameter, "ds_tensor", None)
    if piece is None:
        return torch.as_tensor(parameter)
    held = parameter.ds_numel - rank() * piece.numel()
    return torch.as_tensor(piece.flatten()[: max(0, held)])


def _scores(truth: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    if not np.isfinite(logits).all():
        raise TextassayError(_lost("the logits of the validation rows are not numbers any more"))
    return point_scores(truth, logits)


def _lost(what: str) -> str:
    return (
        f"{what}; lower training.learning_rate or set training.precision to fp32, which makes "
        "another run: name another --output_dir, or replace this one with --force."
    )


def _plain(predictions: Any) -> np.ndarray:
    """Logits alone: some architectures return caches beside them."""
    first = predictions[0] if isinstance(predictions, tuple) else predictions
    return np.asarray(first, dtype=np.float32)


def _drop_default_printer(trainer: AssayTrainer) -> None:
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
