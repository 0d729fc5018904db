"""A short trial: real steps of the real run on this machine, timed."""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

from transformers import TrainerCallback

from textassay.config.runs import Run
from textassay.console import say
from textassay.errors import UsageError
from textassay.models import cpu
from textassay.temporary import temporary_folder
from textassay.training.setup import Setup, assemble
from textassay.training.trainer import AssayTrainer, build_trainer

# The first steps also fill the optimizer's states and the heap.
WARM_UP, STEPS = 3, 20
EVALUATED = 256


@dataclass(frozen=True)
class Trial:
    """Seconds of one run on this machine: a step (the mean), all steps, all evaluations."""

    steps_tried: int
    seconds_a_step: float
    steps: int
    seconds_training: float
    evaluations: int
    seconds_evaluating: float

    def seconds(self) -> float:
        """The whole training; reading, reporting and publishing left out."""
        return self.seconds_training + self.seconds_evaluating


class _Clock(TrainerCallback):
    """Notes when each step ends, and ends the training when it has seen enough."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.times.append(time.perf_counter())
        control.should_evaluate = control.should_save = False
        control.should_training_stop = len(self.times) > WARM_UP + STEPS

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_evaluate = control.should_save = False


def measure(run: Run) -> Trial:
    """Take a few steps of the run and evaluate a few rows. UsageError where it is not one process.

    Nothing is left on the disk but the tokenised rows, which the run will use.
    """
    if run.job.launcher == "deepspeed" or run.job.training.is_zero_shot():
        raise UsageError(
            "--measure: takes steps of a run that is one process and trains, so of the launchers "
            "full and lora; leave it out."
        )
    with temporary_folder("trial") as scratch:
        setup = assemble(replace(run, path=scratch / "trial"))
        say(f"measuring  {STEPS} steps on this machine ({setup.device.type}, {setup.precision})")
        return _try(setup)


def _try(setup: Setup) -> Trial:
    rows = setup.rows()
    if setup.device.type == "cpu":
        cpu.speed_up(setup.model, setup.precision)
    training = setup.run.job.training
    trainer = build_trainer(setup.model, setup.tokenizer, rows, setup.arguments, training, "trial")
    clock = _Clock()
    trainer.add_callback(clock)
    trainer.train()
    seen = clock.times
    if len(seen) < 2:
        raise UsageError("--measure: the run has a single step, and the first is never timed.")
    # Of a run with fewer steps all but the first are timed.
    timed = seen[min(WARM_UP, len(seen) - 2) :]
    each = (timed[-1] - timed[0]) / (len(timed) - 1)
    evaluations = _evaluations(setup, trainer)
    return Trial(len(timed) - 1, each, trainer.state.max_steps, each * trainer.state.max_steps,
                 evaluations, evaluations * _evaluation_seconds(trainer))  # fmt: skip


def _evaluation_seconds(trainer: AssayTrainer) -> float:
    """Of all validation rows; a sample of them, evenly taken over their lengths, is timed."""
    every = trainer.eval_dataset
    count = min(EVALUATED, len(every))
    sample = every.select([index * len(every) // count for index in range(count)])
    started = time.perf_counter()
    trainer.predict(sample)
    return (time.perf_counter() - started) * len(every) / count


def _evaluations(setup: Setup, trainer: AssayTrainer) -> int:
    training, steps = setup.run.job.training, trainer.state.max_steps
    if training.eval_strategy == "epoch":
        batches = len(trainer.get_train_dataloader())
        return math.ceil(steps / math.ceil(batches / training.gradient_accumulation_steps))
    every = training.eval_steps or training.logging_steps
    return max(1, int(steps // (every if every >= 1 else math.ceil(every * steps))))
