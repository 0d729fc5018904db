"""Stand-ins for kernels that cannot run on fake tensors: they keep what the real ones keep."""

from typing import Any

import torch
from torch import nn

FLASH = "textassay_planned_flash"


class _Flash(torch.autograd.Function):
    """FlashAttention keeps its inputs, its output and a number in fp32 for each row of scores.

    Dao et al. 2022, arXiv:2205.14135, algorithm 2; dropout is drawn again in the backward.
    """

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                mask: torch.Tensor | None) -> torch.Tensor:  # fmt: skip
        output = torch.empty_like(query)
        sums = torch.empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, mask, output, sums)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None


def flash_attention(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attention_mask: torch.Tensor | None, **_: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Fused attention in transformers' interface: [batch, length, heads, width], no weights."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # transformers repeats them before it calls the kernel with a mask
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    output: torch.Tensor = _Flash.apply(query, key, value, attention_mask)
    return output.transpose(1, 2).contiguous(), None


class _MaskedDropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(torch.empty(x.shape, dtype=torch.bool))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(grads[0])


class MaskedDropout(nn.Dropout):
    """Dropout as a GPU does it: a mask of one byte for each element is kept."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A tensor like `x`."""
        if not self.training or self.p == 0:
            return x
        result: torch.Tensor = _MaskedDropped.apply(x)
        return result


class _FourBitProduct(torch.autograd.Function):
    """bitsandbytes' MatMul4Bit: the weights are unpacked for each product, and not kept."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: Any) -> torch.Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        return nn.functional.linear(x, layer.unpacked())

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return torch.matmul(grads[0], ctx.layer.unpacked()).to(ctx.dtype), None


class FourBit(nn.Linear):
    """A layer whose frozen weights are in 4 bits."""

    compute_dtype: torch.dtype

    def unpacked(self) -> torch.Tensor:
        """Its weights, [out, in], in the type that it multiplies in."""
        return torch.empty((self.out_features, self.in_features), dtype=self.compute_dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., out] in the type of `x`."""
        with torch.autocast(x.device.type, enabled=False):
            product: torch.Tensor = _FourBitProduct.apply(x.to(self.compute_dtype), self)
            if self.bias is not None:
                product = product + self.bias.to(self.compute_dtype)
        return product.to(x.dtype)
