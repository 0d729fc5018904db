"""What makes a training step fast on a CPU, without changing what is computed in expectation.

Profiling a LoRA step on MiniLM showed a third of the time in dropout's random numbers, half of it
in the fused attention's backward where dropout is off, and the frozen weights cast to bf16 again
at every step. See docs/decisions/0003-training-on-a-cpu.md for the figures.
"""

import ctypes
import re
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from textassay.models.dora import speed_up_dora
from textassay.models.processor import keep_freed_memory

ATTENTION = "textassay_cpu"
READ_BY_FIRST_POSITION = {"bert", "roberta", "xlm-roberta", "camembert", "electra"}
LAYER = re.compile(r"encoder\.layer\.\d+$")
BYTE_VALUES = 256
# One in each of the four 16-bit lanes of a 64-bit word.
ONE_PER_LANE = 0x0001_0001_0001_0001
LOW_BYTES = 0x00FF_00FF_00FF_00FF
BFLOAT16_ONE = 0x3F80


def dropout_mask(shape: torch.Size, p: float) -> tuple[torch.Tensor, float]:
    """A bfloat16 mask of zeros and ones that keeps with probability 1 - p, and 1 / (1 - p).

    Eight elements come from each random 64-bit word, so p is rounded to a 256th, and the scale
    belongs to the rounded p. The comparison of each random byte with p runs on whole words: four
    bytes at a time stand in 16-bit lanes, where adding 256 - threshold carries into bit 8 exactly
    if the byte reaches the threshold. Drawn from torch's default generator, so that seeds and
    resuming work as they do for torch's own dropout.
    """
    threshold = min(BYTE_VALUES - 1, max(1, round(p * BYTE_VALUES)))
    count = shape.numel()
    lanes = torch.empty((2, (count + 7) // 8), dtype=torch.int64)
    lanes[0].random_(-(2**63), None)  # without a lower bound the highest bit would always be 0
    torch.bitwise_right_shift(lanes[0], 8, out=lanes[1])
    lanes.bitwise_and_(LOW_BYTES).add_((BYTE_VALUES - threshold) * ONE_PER_LANE)
    lanes.bitwise_right_shift_(8).bitwise_and_(ONE_PER_LANE).mul_(BFLOAT16_ONE)
    mask = lanes.view(-1).view(torch.bfloat16)[:count].view(shape)
    return mask, BYTE_VALUES / (BYTE_VALUES - threshold)


class _Dropped(torch.autograd.Function):
    """x * mask * scale, and the same in the backward; only the mask is kept."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, p: float) -> torch.Tensor:
        mask, ctx.scale = dropout_mask(x.shape, p)
        ctx.save_for_backward(mask)
        return (x * mask).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        (mask,) = ctx.saved_tensors
        return (grads[0] * mask).mul_(ctx.scale), None


def cheap_dropout(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """Dropout of `x` as torch defines it, with p rounded to a 256th."""
    if not training or p == 0:
        return x
    result: torch.Tensor = _Dropped.apply(x, p)
    return result


class CheapDropout(nn.Dropout):
    """nn.Dropout with cheaper random numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` with elements dropped while training, any shape."""
        return cheap_dropout(x, self.p, self.training)


class CheapInputDropout(CheapDropout):
    """Dropout before a linear layer that autocast feeds with bf16: rounds first, so drops less."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`, rounded as the layer behind would round it, with elements dropped while training."""
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.get_autocast_dtype("cpu"))
        return super().forward(x)


def cpu_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(Q K^T * scaling + mask) V, the plain way, in transformers' attention interface.

    query is [batch, heads, length, width], key and value may have fewer heads (grouped queries);
    returns [batch, length, heads, width] and the weights.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query * scale, key.transpose(2, 3))
    if attention_mask is not None:
        scores = scores + attention_mask[..., : key.shape[-2]].to(scores.dtype)
    # In fp32, as autocast wants it: on a CPU the bf16 softmax takes three times as long anyway.
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    weights = cheap_dropout(weights, dropout, module.training)
    mixed = torch.matmul(weights, value)
    return mixed.transpose(1, 2).contiguous(), weights


def speed_up(model: Any, precision: str) -> None:
    """Prepare a model for training on a CPU, in place.

    Only for a model that is trained and then saved by its trained parts: under bf16 autocast the
    frozen linear weights are rounded once instead of at every step, which gives the same products.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        keep_freed_memory(libc)
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for path, module in list(model.named_modules()):
        dropout = CheapInputDropout if path.endswith("lora_dropout") else CheapDropout
        for name, child in list(module.named_children()):
            if type(child) is nn.Dropout:
                setattr(module, name, dropout(child.p))
        if precision == "bf16" and type(module) is nn.Linear:
            _round_frozen(module, embeddings)
    speed_up_dora(model)
    if _reads_first_position(model):
        _compute_first_position_only(model)
    if _takes_attention(model):
        AttentionInterface.register(ATTENTION, cpu_attention)
        AttentionMaskInterface.register(ATTENTION, eager_mask)
        model.config._attn_implementation = ATTENTION


def _round_frozen(linear: nn.Linear, embeddings: set[int]) -> None:
    """Round a frozen layer's weights, unless they are an embedding's as well."""
    if id(linear.weight) in embeddings or any(p.requires_grad for p in linear.parameters()):
        return
    for parameter in linear.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)


def _reads_first_position(model: Any) -> bool:
    """Whether the classifier reads nothing of the last layer but its first position."""
    config = getattr(model, "config", None)
    return getattr(config, "model_type", None) in READ_BY_FIRST_POSITION


def _compute_first_position_only(model: Any) -> None:
    """After the last layer's attention, drop the positions that nobody reads: the same logits.

    Two thirds of a layer's work come after its attention: with six layers an eighth of the whole.
    """
    layers = [module for name, module in model.named_modules() if LAYER.search(name)]
    layers[-1].attention.output.register_forward_pre_hook(
        lambda _, inputs: tuple(hidden[:, :1].contiguous() for hidden in inputs)
    )


def _takes_attention(model: Any) -> bool:
    """Whether the architecture asks transformers' interface for its attention function."""
    return bool(getattr(model, "_supports_attention_backend", False))
