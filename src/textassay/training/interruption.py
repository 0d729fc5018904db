"""How a signal ends the training: with a checkpoint from which nothing is lost.

Each optimizer step, each batch of an evaluation and each checkpoint asks whether one has come. An
evaluation that was cut short is owed by the checkpoint of its step, and made up for on resuming.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from textassay.errors import Stopped
from textassay.stopping import asked_to_stop, which_signal
from textassay.training.ranks import any_of_us


class EvaluationCut(Exception):  # noqa: N818 (nothing went wrong)
    """A signal came during the evaluation; the checkpoint of this step owes it."""


class AlreadyOver(Exception):  # noqa: N818
    """The evaluation that was owed ends the training, as it would have then."""


class StopRule(TrainerCallback):
    """After a signal: a checkpoint at the next step, and the end behind it.

    All processes of a run do the same at the same step, whichever was asked.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save now."""
        if _asked():
            control.should_save = True

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave an evaluation, unless it is the last one, which no later step would make up for."""
        if not control.should_training_stop and _asked():
            raise EvaluationCut

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The checkpoint is whole: end."""
        if _asked():
            raise Stopped(
                f"stopped by {which_signal()} at step {state.global_step}, whose checkpoint is "
                "saved; the same command goes on from there."
            )


class OwedEvaluation(TrainerCallback):
    """Before the first step after resuming: the evaluation that a signal had cut short."""

    def __init__(self, trainer: Any, checkpoint: Path) -> None:
        self._trainer = trainer
        self._checkpoint: Path | None = checkpoint

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Evaluate, once; AlreadyOver where that stops the training."""
        if self._checkpoint is None:
            return
        checkpoint, self._checkpoint = self._checkpoint, None
        # The random numbers that it takes were taken before the checkpoint was written.
        with torch.random.fork_rng(devices=[]):
            self._trainer.evaluate_for(checkpoint)
        if control.should_training_stop:
            raise AlreadyOver


def _asked() -> bool:
    return any_of_us(asked_to_stop())
