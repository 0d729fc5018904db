"""Optimizer, schedule and trackers, made once for a single parameter.

They fail for reasons that nobody can list: a package that is missing, an argument that a schedule
needs, a device that an optimizer does not know. So they are tried before data are read.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks
from transformers.utils import is_liger_kernel_available

from textassay.errors import UsageError, first_line

STEPS, WARMUP_STEPS = 20, 2
# They want the model itself, and are made with it.
OF_THE_MODEL = ("galore", "apollo", "lomo", "adalomo")


def try_settings(arguments: TrainingArguments, device: torch.device) -> None:
    """UsageError for what cannot be made, or takes no step."""
    optim = str(arguments.optim.value)
    optimizer: torch.optim.Optimizer | None = None
    with _refusing("optim", optim):
        optimizer = _optimizer(arguments, optim, device)
        if optimizer:
            optimizer.step()
    schedule = {"lr_scheduler_type": str(arguments.lr_scheduler_type.value)}
    if arguments.lr_scheduler_kwargs:
        schedule["lr_scheduler_kwargs"] = str(arguments.lr_scheduler_kwargs)
    with _refusing(" with ".join(schedule), " and ".join(schedule.values())):
        _take_all_steps(arguments, optimizer or torch.optim.SGD([_parameter(device)], lr=1.0))
    with _refusing("report_to", ", ".join(arguments.report_to)):
        for tracker in get_reporting_integration_callbacks(arguments.report_to):
            tracker()
    for name in ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"):
        with _refusing(name, str(getattr(arguments, name, None))):
            _checkpoint(getattr(arguments, name, None) or {})
    if arguments.use_liger_kernel and not is_liger_kernel_available():
        raise UsageError("training.use_liger_kernel: liger-kernel is not installed.")


def _optimizer(
    arguments: TrainingArguments, optim: str, device: torch.device
) -> torch.optim.Optimizer | None:
    """The optimizer, with a gradient to follow; None where it is made of a model alone."""
    if optim.startswith(OF_THE_MODEL):
        return None
    kind, settings = Trainer.get_optimizer_cls_and_kwargs(arguments)
    if arguments.optim_args:
        plain = copy.copy(arguments)
        plain.optim_args = None
        if Trainer.get_optimizer_cls_and_kwargs(plain)[1] == settings:
            raise ValueError(f"it takes no optim_args ({arguments.optim_args})")
    parameter = _parameter(device)
    parameter.grad = torch.ones_like(parameter)
    made: torch.optim.Optimizer = kind([parameter], **settings)
    return made


def _parameter(device: torch.device) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(64, device=device))


def _take_all_steps(arguments: TrainingArguments, optimizer: torch.optim.Optimizer) -> None:
    schedule: Any = get_scheduler(
        arguments.lr_scheduler_type,
        optimizer,
        num_warmup_steps=WARMUP_STEPS,
        num_training_steps=STEPS,
        scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
    )
    takes_a_metric = arguments.lr_scheduler_type.value in ("reduce_lr_on_plateau", "greedy")
    for _ in range(STEPS):
        optimizer.step()
        if takes_a_metric:
            schedule.step(1.0)
        else:
            schedule.step()
    rate = optimizer.param_groups[0]["lr"]
    if isinstance(rate, complex) or not 0 <= float(rate) < float("inf"):
        raise ValueError(f"the learning rate becomes {rate}")


def _checkpoint(settings: dict[str, Any]) -> None:
    from torch.utils.checkpoint import checkpoint

    def forward(numbers: torch.Tensor) -> torch.Tensor:
        return numbers * 2

    one = torch.ones(1, requires_grad=True)
    checkpoint(forward, one, **{"use_reentrant": False, **settings}).backward()


@contextmanager
def _refusing(setting: str, value: str) -> Iterator[None]:
    """Whatever a library raises for a setting, as a UsageError."""
    try:
        yield
    except Exception as error:
        reason = first_line(error)[:300] or type(error).__name__
        raise UsageError(f"training.{setting}: {value} cannot be used: {reason}") from None
