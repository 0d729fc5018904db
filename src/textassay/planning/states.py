"""Weights, gradients and optimizer states of one process: by optimizer, and by ZeRO's stage.

ZeRO: Rajbhandari et al. 2020, arXiv:1910.02054, figure 1, with what DeepSpeed does beyond it: its
fp32 masters are a copy also where weights are in fp32, and stage 3 keeps up to a thousand million
parameters put together between forward and backward (stage3_max_live_parameters).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from textassay.config.schema import DeepspeedSection

FP32 = 4
# bitsandbytes: a byte a number, an fp32 scale for each block of 256; small tensors stay in fp32.
BLOCK, SMALLEST_QUANTIZED = 256, 4096
MAX_LIVE_PARAMETERS = 10**9


@dataclass(frozen=True)
class Tensor:
    """A parameter: its shape, what one process holds of it while it trains, whether it trains."""

    shape: tuple[int, ...]
    nbytes: int
    trains: bool

    @property
    def numel(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Shares:
    """Bytes that one process holds all the time, on its device or offloaded to the CPU's memory.

    `gathered` is what stage 3 puts together for the step, `at_step` what only the optimizer's step
    needs. Gradients that are `cut` go as soon as the next one is there.
    """

    weights: int
    gradients: int
    states: int
    gathered: int = 0
    at_step: int = 0
    offloaded: int = 0
    cut: bool = False

    def resident(self) -> int:
        """What is there in every moment of a step but for gradients."""
        return self.weights + self.states + self.gathered


def parameters_of(model: torch.nn.Module) -> list[Tensor]:
    """Every parameter once."""
    found = []
    for parameter in model.parameters():
        packed = getattr(parameter, "quant_state", None)
        shape = tuple(parameter.shape) if packed is None else tuple(packed.shape)
        found.append(Tensor(shape, parameter.untyped_storage().nbytes(), parameter.requires_grad))
    return found


def alone(tensors: Sequence[Tensor], optimizer: str) -> Shares:
    """One process that holds everything."""
    trained = [tensor for tensor in tensors if tensor.trains]
    states = sum(optimizer_states(tensor.shape, optimizer) for tensor in trained)
    return Shares(
        sum(tensor.nbytes for tensor in tensors), sum(tensor.nbytes for tensor in trained), states
    )


def optimizer_states(shape: tuple[int, ...], optimizer: str) -> int:
    """Bytes beside one tensor, by TrainingArguments' names: two fp32 moments for AdamW."""
    numel = math.prod(shape)
    if "8bit" in optimizer and numel >= SMALLEST_QUANTIZED:
        moments = 1 if "lion" in optimizer else 2
        return moments * (numel + FP32 * math.ceil(numel / BLOCK))
    if optimizer == "sgd":
        return 0
    if "lion" in optimizer or optimizer == "adagrad":
        return FP32 * numel
    if optimizer == "adafactor":  # a row and a column instead of a matrix
        return FP32 * (shape[-1] + numel // shape[-1] if len(shape) > 1 else numel)
    return 2 * FP32 * numel


def cut_by_zero(tensors: Sequence[Tensor], zero: DeepspeedSection, processes: int) -> Shares:
    """One of so many processes under ZeRO."""
    stage = zero.zero_stage
    whole = sum(tensor.nbytes for tensor in tensors)
    trained = [tensor for tensor in tensors if tensor.trains]
    gradients = sum(tensor.nbytes for tensor in trained)
    numbers = -(-sum(tensor.numel for tensor in trained) // processes)
    states = 3 * FP32 * numbers  # masters and AdamW's moments
    weights = -(-whole // processes) if stage == 3 else whole
    total = max(1, sum(tensor.numel for tensor in tensors))
    gathered = whole * min(total, MAX_LIVE_PARAMETERS) // total if stage == 3 else 0
    gradients = gradients if stage == 1 else -(-gradients // processes)
    in_half = any(tensor.nbytes < FP32 * tensor.numel for tensor in trained)
    at_step = FP32 * numbers if in_half else 0
    offloaded = 0
    if zero.offload_optimizer:
        offloaded += states + at_step + (gradients if stage > 1 else 0)
        states = at_step = 0
        gradients = 0 if stage > 1 else gradients
    if zero.offload_param:
        offloaded += weights
        weights = 0
    return Shares(weights, gradients, states, gathered, at_step, offloaded, cut=stage > 1)
