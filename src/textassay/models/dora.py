"""DoRA for linear layers at about the price of LoRA, with PEFT's results.

PEFT multiplies B A out through an identity matrix at every forward, and scales activations in fp32
where autocast made them bf16. Merging, saving and everything else stays PEFT's.
"""

from typing import Any

import torch
from torch import nn

from textassay.models.peft_library import peft

Linear = peft.tuners.lora.layer.Linear
DoraLinearVariant: Any = peft.tuners.lora.variants.DoraLinearVariant


class FusedDoraVariant(DoraLinearVariant):
    """PEFT's DoRA with another forward.

    y = m / ||W + s B A|| * (W x + s B A x) + bias, with the norm of each row a constant for the
    gradient: Liu et al. 2024, https://arxiv.org/abs/2402.09353, equation 5, section 4.3.
    """

    @staticmethod
    def forward(
        module: Any, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **_: Any
    ) -> torch.Tensor:
        """What the layer gives, [..., out], from `x` [..., in] and its base layer's `result`."""
        base = module.get_base_layer()
        lora_a, lora_b = module.lora_A[active_adapter], module.lora_B[active_adapter]
        dropout, scaling = module.lora_dropout[active_adapter], module.scaling[active_adapter]
        norm = row_norms(base.weight, lora_a.weight, lora_b.weight, scaling)
        gain = module.lora_magnitude_vector[active_adapter].weight / norm
        dropped = dropout(x)
        hidden = lora_a(dropped)
        dtype = torch.promote_types(result.dtype, hidden.dtype)
        flat, hidden = (part.reshape(-1, part.shape[-1]).to(dtype) for part in (result, hidden))
        # Near 1, where bf16 is coarse, the gain itself would lose what the magnitude has learnt.
        change = (gain - 1).to(dtype)
        if isinstance(dropout, nn.Identity) or not module.training:
            bias = flat.new_zeros(1) if base.bias is None else base.bias.to(dtype)
            scaled = torch.lerp(flat, bias, -change)
        else:
            # PEFT drops from the input of W x as well, but only in what DoRA changes about it.
            without_bias = nn.functional.linear(dropped, base.weight.to(dropped.dtype)).to(dtype)
            scaled = torch.addcmul(flat, without_bias.view_as(flat), change)
        # The gain on B, a small matrix, instead of on the activations; the sum in the same product.
        update = ((scaling * gain).unsqueeze(1) * lora_b.weight).to(dtype)
        return scaled.addmm_(hidden, update.T).view_as(result)


def speed_up_dora(model: Any) -> None:
    """Give every nn.Linear that PEFT adapts with DoRA the faster forward, in place.

    Other layers keep PEFT's: quantised and transposed weights, embeddings, convolutions.
    """
    for module in model.modules():
        if type(module) is Linear and type(module.get_base_layer()) is nn.Linear:
            for name, variant in module.lora_variant.items():
                if type(variant) is DoraLinearVariant:
                    module.lora_variant[name] = FusedDoraVariant()


@torch.no_grad()
def row_norms(
    weight: torch.Tensor, lora_a: torch.Tensor, lora_b: torch.Tensor, scaling: float
) -> torch.Tensor:
    """||W + s B A|| of each row, [out], from W [out, in], A [r, in] and B [out, r], in fp32.

    Written out each time: 2% of a step. Squares and products of W, A and B kept apart would save
    half of that, and lose digits where s B A cancels W.
    """
    with torch.autocast(weight.device.type, enabled=False):
        merged = weight.to(torch.float32, copy=True)
        merged.addmm_(lora_b.float(), lora_a.float(), alpha=scaling)
        return torch.linalg.vector_norm(merged, dim=1)
