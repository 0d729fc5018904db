"""The trainer under DeepSpeed: its checkpoints hold ZeRO's states, and every weight must move."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from textassay.artifacts.zero.checkpoint import open_checkpoint
from textassay.errors import GateError
from textassay.training.trainer import AssayTrainer

# LoRA's B moves once the rate is above 0, its A one step later.
STEPS_TO_MOVE = 4
# A rate that moves a weight of 1 in fp32.
ENOUGH = 1e-6

Digests = dict[str, tuple[float, float]]


class ZeroTrainer(AssayTrainer):
    """Weights are in the states of DeepSpeed's engine; the consolidator makes models of them."""

    beside: Callable[[Path], None]

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """What a checkpoint needs beside the states: configs, tokenizer, labels. No weights."""
        if self.args.should_save:
            self.beside(Path(output_dir or self.args.output_dir))


class MovementCheck(TrainerCallback):
    """After the first steps every trainable tensor must have moved; else GateError names them.

    DeepSpeed has been seen to leave some of them at their start without a word (peft 1402).
    """

    def __init__(self) -> None:
        self._before: Digests | None = None
        self._first = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Remember the fp32 masters."""
        self._first = state.global_step
        self._before = _digests(given["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Compare, once there were steps enough at a rate that can be felt."""
        rate = max(given["lr_scheduler"].get_last_lr())
        early = state.global_step - self._first < STEPS_TO_MOVE + _skipped(given["optimizer"])
        if self._before is None or early or rate < min(args.learning_rate, ENOUGH):
            return
        after = _digests(given["model"])
        still = [name for name, digest in after.items() if digest == self._before[name]]
        self._before = None
        if still:
            raise GateError(
                f"step {state.global_step}: {len(still)} of {len(after)} trainable tensors have "
                f"not moved, {still[0]} among them; the DeepSpeed configuration or the method does "
                "not train them. Nothing was saved."
            )


def refuse_hostile(checkpoint: Path) -> None:
    """Read a checkpoint with our own reader before DeepSpeed unpickles it without asking.

    DataError where it is not whole or could run code.
    """
    open_checkpoint(checkpoint)


def _digests(model: Any) -> Digests:
    """A sum and a sum of squares of each trainable tensor's fp32 master, the same on all ranks.

    A tensor without a master, which no optimizer was given, does not move.
    """
    found: Digests = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            master = _master(parameter)
            found[name] = (0.0, 0.0)
            if master is not None:
                whole = master.detach().double()
                found[name] = (float(whole.sum()), float(torch.square(whole).sum()))
    return found


def _master(parameter: torch.Tensor) -> torch.Tensor | None:
    """The whole fp32 tensor that the optimizer moves; the ranks work on it together."""
    from deepspeed.utils import safe_get_full_fp32_param

    try:
        return safe_get_full_fp32_param(parameter)
    except KeyError:  # what stage 3 says of a tensor that it was not given
        return None


def _skipped(optimizer: Any) -> int:
    """Steps that fp16's loss scaling left out."""
    engine = getattr(optimizer, "optimizer", optimizer)
    return int(getattr(engine, "skipped_steps", 0) or 0)
