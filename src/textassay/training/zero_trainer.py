"""The trainer under DeepSpeed: its checkpoints hold ZeRO's states, and every weight must move."""

import functools
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback

from textassay.artifacts.zero.files import deepspeed_loads_weights_only
from textassay.errors import DataError, GateError, UsageError, first_line
from textassay.training.carry_over import is_part, place_trainer
from textassay.training.ranks import is_main, wait_for_all
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

    def _init_training_state(
        self, max_steps: int, num_update_steps_per_epoch: int, num_train_epochs: int,
        resume_from_checkpoint: Any, trial: Any,
    ) -> Any:  # fmt: skip
        """Where another number of processes left off, in steps of these."""
        if resume_from_checkpoint and is_part(Path(resume_from_checkpoint)):
            if is_main():
                place_trainer(
                    Path(resume_from_checkpoint), max_steps, num_update_steps_per_epoch,
                    self.args.max_steps > 0,
                )  # fmt: skip
            wait_for_all()
        return super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )

    def _prepare_for_training(
        self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any
    ) -> Any:
        """The engine; with weights carried over its optimizer is new and only the rate goes on."""
        resume_from = resume_from_checkpoint
        anew = bool(resume_from) and is_part(Path(resume_from))
        try:
            with deepspeed_loads_weights_only():
                made = super()._prepare_for_training(
                    max_steps, train_dataloader, None if anew else resume_from
                )
        except UnpicklingError as error:
            raise DataError(
                f"{resume_from}: holds more than tensors and plain values, so it is not read "
                f"({first_line(error)[:200]})."
            ) from None
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise UsageError(f"deepspeed: the configuration is refused ({reason}).") from None
        if anew:
            for _ in range(self.state.global_step):
                self.lr_scheduler.step()
        return made


class MovementCheck(TrainerCallback):
    """After the first steps every trainable tensor must have moved; else GateError names them.

    DeepSpeed has been seen to leave some of them at their start without a word (peft 1402). Weight
    decay moves a tensor too, so that it must have had a gradient as well.
    """

    def __init__(self) -> None:
        self._before: Digests | None = None
        self._felt: set[str] = set()
        self._hooks: list[Any] = []
        self._steps = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Remember the fp32 masters; no rate below `ENOUGH` would move those near 1."""
        if args.learning_rate < ENOUGH:
            return
        self._before = _digests(given["model"])
        for name, parameter in _trainable(given["model"]):
            self._hooks.append(parameter.register_hook(functools.partial(self._feel, name)))

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Compare, once there were steps enough at a rate that can be felt."""
        # fp16's loss scaling leaves steps out, the first ones most often.
        self._steps += not getattr(given["optimizer"], "step_was_skipped", False)
        rate = max(given["lr_scheduler"].get_last_lr())
        if self._before is None or self._steps < STEPS_TO_MOVE or rate < ENOUGH:
            return
        after = _digests(given["model"])
        felt = self._felt_by_any(list(after), args.device)
        still = [name for name, digest in after.items()
                 if digest == self._before[name] or name not in felt]  # fmt: skip
        self._before = None
        for hook in self._hooks:
            hook.remove()
        if still:
            raise GateError(
                f"step {state.global_step}: {len(still)} of {len(after)} trainable tensors have "
                f"not moved, {still[0]} among them; the DeepSpeed configuration or the method does "
                "not train them. Nothing was saved."
            )

    def _feel(self, name: str, gradient: torch.Tensor) -> None:
        if name not in self._felt and bool(gradient.any()):
            self._felt.add(name)

    def _felt_by_any(self, names: list[str], device: torch.device) -> set[str]:
        """The tensors that had a gradient other than 0 in one of the processes."""
        flags = torch.tensor([float(name in self._felt) for name in names], device=device)
        if dist.is_initialized():
            dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return {name for name, flag in zip(names, flags.tolist(), strict=True) if flag}


def _trainable(model: Any) -> list[tuple[str, torch.Tensor]]:
    return [(name, parameter) for name, parameter in model.named_parameters()
            if parameter.requires_grad]  # fmt: skip


def _digests(model: Any) -> Digests:
    """A sum and a norm of each trainable tensor's fp32 master, the same on all ranks.

    A tensor without a master, which no optimizer was given, does not move.
    """
    found: Digests = {}
    for name, parameter in _trainable(model):
        whole = _master(parameter)
        found[name] = (0.0, 0.0)
        if whole is not None:
            norm = torch.linalg.vector_norm(whole, dtype=torch.float64)
            found[name] = (float(whole.sum(dtype=torch.float64)), float(norm))
    return found


def _master(parameter: torch.Tensor) -> torch.Tensor | None:
    """The whole fp32 tensor that the optimizer moves; the ranks put it together."""
    from deepspeed.utils import safe_get_full_fp32_param

    try:
        found = safe_get_full_fp32_param(parameter)
    except KeyError:  # what stage 3 says of a tensor that it was not given
        return None
    return None if found is None else found.detach()
