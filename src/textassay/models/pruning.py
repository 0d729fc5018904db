"""Attention heads and feed-forward units: which tensors they are made of, and how they are cut out.

All layers keep the same number of them, so that a model is described by two numbers. Where the
library's config cannot say how many heads are left, our settings in it do, by the key `pruned`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from textassay.console import counted
from textassay.errors import UsageError
from textassay.models.source import SETTINGS_KEY

PRUNED = "pruned"
HEADS = "num_attention_heads"


@dataclass(frozen=True)
class Parts:
    """The modules of a layer, by their names inside it.

    `into_heads` compute what the heads work on, `out_of_heads` reads what they give; units are
    alike. `fused` modules in one give queries, keys and values. `units_key` is the config's.
    """

    attention: str
    into_heads: tuple[str, ...]
    out_of_heads: str
    into_units: tuple[str, ...]
    out_of_units: str
    units_key: str
    fused: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        ends = (self.attention, self.out_of_heads, self.out_of_units)
        return (*self.into_heads, *self.into_units, *ends)


FAMILIES = {
    "bert": Parts(
        "attention.self",
        ("attention.self.query", "attention.self.key", "attention.self.value"),
        "attention.output.dense",
        ("intermediate.dense",),
        "output.dense",
        "intermediate_size",
    ),
    "distilbert": Parts(
        "attention",
        ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        "attention.out_lin",
        ("ffn.lin1",),
        "ffn.lin2",
        "hidden_dim",
    ),
    "gpt2": Parts(
        "attn", ("attn.c_attn",), "attn.c_proj", ("mlp.c_fc",), "mlp.c_proj", "n_inner", fused=3
    ),
    "llama": Parts(
        "self_attn",
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "self_attn.o_proj",
        ("mlp.gate_proj", "mlp.up_proj"),
        "mlp.down_proj",
        "intermediate_size",
    ),
}


@dataclass(frozen=True)
class Sizes:
    """What each layer has: query heads, `grouped` of which share a key and value, and units."""

    heads: int
    head_size: int
    grouped: int
    units: int

    @property
    def groups(self) -> int:
        """What can be taken away: heads, or groups of those that share a key and value."""
        return self.heads // self.grouped


def layers_of(model: Any) -> tuple[Parts, list[Any]]:
    """The layers of a model, and what their parts are called. UsageError for another structure."""
    for parts in FAMILIES.values():
        for module in model.modules():
            if isinstance(module, nn.ModuleList) and _has_parts(module, parts):
                return parts, list(module)
    raise UsageError(
        f"{model.config.model_type}: heads and units are known in layers like those of BERT, "
        "RoBERTa, DistilBERT, GPT-2, Llama and Qwen2, and this model has others."
    )


def sizes_of(model: Any) -> Sizes:
    """Heads and units as the modules have them; the config of a pruned model may not know."""
    parts, layers = layers_of(model)
    attention = layers[0].get_submodule(parts.attention)
    head_size = getattr(attention, "attention_head_size", None) or attention.head_dim
    return Sizes(
        heads=_width(layers[0].get_submodule(parts.out_of_heads), inwards=True) // head_size,
        head_size=head_size,
        grouped=getattr(attention, "num_key_value_groups", 1),
        units=_width(layers[0].get_submodule(parts.out_of_units), inwards=True),
    )


def keep_heads(model: Any, kept: Sequence[Sequence[int]]) -> None:
    """Cut a model down to these heads (groups of heads, see `Sizes`) of each layer, in place.

    Its config says so afterwards, so that the saved model is built with as many.
    """
    _refuse_unequal(kept)
    before = sizes_of(model)
    _cut_heads(model, kept)
    after = sizes_of(model)
    if after == before:
        return
    config = model.config
    settings = dict(getattr(config, SETTINGS_KEY, None) or {})
    settings.pop(PRUNED, None)
    if _library_can_say(config, after):
        config.head_dim = before.head_size
        config.num_key_value_heads = after.groups
        config.num_attention_heads = after.heads
    else:
        settings[PRUNED] = {HEADS: after.heads}
    setattr(config, SETTINGS_KEY, settings)


def keep_units(model: Any, kept: Sequence[Sequence[int]]) -> None:
    """Cut a model down to these feed-forward units of each layer, in place, its config as well."""
    _refuse_unequal(kept)
    parts, layers = layers_of(model)
    count = sizes_of(model).units
    for layer, units in zip(layers, kept, strict=True):
        for name in parts.into_units:
            _keep(layer.get_submodule(name), units, count, inwards=False)
        _keep(layer.get_submodule(parts.out_of_units), units, count, inwards=True)
        feed_forward = layer.get_submodule(parts.out_of_units.rpartition(".")[0])
        if hasattr(feed_forward, "intermediate_size"):
            feed_forward.intermediate_size = len(units)
    setattr(model.config, parts.units_key, len(kept[0]))


def keep_first_heads(model: Any, heads: int) -> None:
    """Give a model that was built as its config says room for `heads` heads a layer instead."""
    sizes = sizes_of(model)
    if not 0 < heads <= sizes.heads or heads % sizes.grouped:
        raise UsageError(
            f"config.json: {SETTINGS_KEY}.{PRUNED}: {counted(heads, 'head')} cannot be what is "
            f"left of {sizes.heads}; it was changed."
        )
    first = list(range(heads // sizes.grouped))
    _cut_heads(model, [first] * len(layers_of(model)[1]))


def _cut_heads(model: Any, kept: Sequence[Sequence[int]]) -> None:
    parts, layers = layers_of(model)
    sizes = sizes_of(model)
    for layer, groups in zip(layers, kept, strict=True):
        for name in parts.into_heads:
            _keep(layer.get_submodule(name), groups, sizes.groups, False, parts.fused)
        _keep(layer.get_submodule(parts.out_of_heads), groups, sizes.groups, inwards=True)
        attention, heads = layer.get_submodule(parts.attention), len(groups) * sizes.grouped
        # What the families call the count of heads, and the width of all of them.
        for names, value in (
            ((HEADS, "n_heads", "num_heads"), heads),
            (("all_head_size", "split_size"), heads * sizes.head_size),
        ):
            for name in names:
                if hasattr(attention, name):
                    setattr(attention, name, value)


def _keep(module: Any, kept: Sequence[int], count: int, inwards: bool, fused: int = 1) -> None:
    """Keep of the `count` equal blocks of a linear layer's inputs or outputs those that are named.

    Of a fused layer the outputs are `fused` times `count` blocks.
    """
    width = _width(module, inwards)
    block = width // fused // count
    device = module.weight.device
    blocks = torch.tensor(kept, device=device)[:, None] * block
    one = (blocks + torch.arange(block, device=device)).flatten()
    index = torch.cat([one + part * (width // fused) for part in range(fused)])
    # A Conv1D holds what a Linear holds, transposed.
    axis = int(inwards) if isinstance(module, nn.Linear) else 1 - int(inwards)
    module.weight = _selected(module.weight, axis, index)
    if not inwards and module.bias is not None:
        module.bias = _selected(module.bias, 0, index)
    names = ("in_features", "nx") if inwards else ("out_features", "nf")
    for name in names:
        if hasattr(module, name):
            setattr(module, name, len(index))


def _selected(parameter: nn.Parameter, axis: int, index: torch.Tensor) -> nn.Parameter:
    chosen = parameter.detach().index_select(axis, index).contiguous()
    return nn.Parameter(chosen, requires_grad=parameter.requires_grad)


def _width(module: Any, inwards: bool) -> int:
    """How many inputs or outputs a linear layer has."""
    axis = int(inwards) if isinstance(module, nn.Linear) else 1 - int(inwards)
    return int(module.weight.shape[axis])


def _has_parts(layers: nn.ModuleList, parts: Parts) -> bool:
    def has(layer: nn.Module, name: str) -> bool:
        try:
            layer.get_submodule(name)
        except AttributeError:
            return False
        return True

    if not layers or not all(has(layer, name) for layer in layers for name in parts.names):
        return False
    return not any(_unknown_weights(layer, parts) for layer in layers)


def _unknown_weights(layer: nn.Module, parts: Parts) -> list[str]:
    """Modules with weights in a layer's attention that no part names, norms aside.

    ConvBERT's convolutions and Longformer's global attention depend on the heads, too.
    """
    attention = layer.get_submodule(parts.attention)
    known = {*parts.names} - {parts.attention}
    names = {f"{parts.attention}.{name}".removesuffix("."): module
             for name, module in attention.named_modules()}  # fmt: skip
    return [name for name, module in names.items() if list(module.parameters(recurse=False))
            and name not in known and "Norm" not in type(module).__name__]  # fmt: skip


def _library_can_say(config: Any, sizes: Sizes) -> bool:
    """Whether a config with fewer heads of the same size is one that the library takes.

    Llama's refuses counts that do not divide the hidden size, though its model could.
    """
    counts_groups = hasattr(config, "num_key_value_heads")
    return counts_groups and config.hidden_size % sizes.heads == 0


def _refuse_unequal(kept: Sequence[Sequence[int]]) -> None:
    if len({len(of_a_layer) for of_a_layer in kept}) != 1 or not kept[0]:
        raise ValueError("every layer keeps the same number, and at least one")
