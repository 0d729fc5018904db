"""How much each attention head and feed-forward unit matters, by the gradient of a gate at 1.

Imagine every head's output, and every unit's, multiplied by a gate that is 1. To first order the
loss changes by the gate's gradient when the gate is closed. The importance is the mean over rows of
its absolute value: Michel et al. 2019, "Are Sixteen Heads Really Better than One?", equation 2;
for units with the gates of Molchanov et al. 2019, "Importance Estimation for Neural Network
Pruning".
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from textassay.artifacts.kinds import Loaded
from textassay.models.predict import pad_batch
from textassay.models.pruning import layers_of, sizes_of

BATCH = 32


@dataclass(frozen=True)
class Importance:
    """`heads` [layers, heads or groups of them] and `units` [layers, units], on `rows` rows."""

    heads: np.ndarray
    units: np.ndarray
    rows: int


def measure_importance(
    loaded: Loaded, texts: Sequence[str], labels: Sequence[str], device: torch.device
) -> Importance:
    """The importance of all heads and units for the loss on labelled texts, in fp32.

    The model is moved to `device` and its weights are frozen.
    """
    model = loaded.model.to(device).eval().requires_grad_(False)
    ids, truth = loaded.ids(texts), torch.tensor(loaded.labels.ids(list(labels)))
    sizes, count = sizes_of(model), len(layers_of(model)[1])
    heads = torch.zeros(count, sizes.groups, dtype=torch.float64)
    units = torch.zeros(count, sizes.units, dtype=torch.float64)
    order = np.argsort([len(row) for row in ids], kind="stable")
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        batch = pad_batch([ids[row] for row in rows], loaded.tokenizer.pad_token_id)
        # A gate a row: the gradient of the summed loss is then each row's own.
        gates = _open(count, len(rows), sizes.groups, device)
        doors = _open(count, len(rows), sizes.units, device)
        with gated(model, gates, doors):
            logits = model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits
        loss = torch.nn.functional.cross_entropy(
            logits.float(), truth[rows].to(device), reduction="sum"
        )
        found = torch.autograd.grad(loss, [*gates, *doors])
        heads += torch.stack(found[:count]).abs().sum(1).cpu()
        units += torch.stack(found[count:]).abs().sum(1).cpu()
    return Importance((heads / len(ids)).numpy(), (units / len(ids)).numpy(), len(ids))


def most_important(importance: np.ndarray, keep: int) -> list[list[int]]:
    """The `keep` most important ones of each layer, in the order in which they stand there."""
    best = np.argsort(-importance, axis=1, kind="stable")[:, :keep]
    return [sorted(map(int, row)) for row in best]


@contextmanager
def gated(
    model: Any, heads: Sequence[torch.Tensor], units: Sequence[torch.Tensor]
) -> Iterator[None]:
    """Multiply what heads (or groups of them) and units give by gates, one tensor a layer.

    Gates are of shape [rows or 1, heads] and [rows or 1, units].
    """
    parts, layers = layers_of(model)
    handles = [
        layer.get_submodule(name).register_forward_pre_hook(_gate(gates))
        for layer, pair in zip(layers, zip(heads, units, strict=True), strict=True)
        for name, gates in zip((parts.out_of_heads, parts.out_of_units), pair, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def closed(kept: Sequence[Sequence[int]], count: int) -> list[torch.Tensor]:
    """Gates [1, count] of each layer that let through nothing but what is kept."""
    gates = []
    for row in kept:
        gate = torch.zeros(1, count)
        gate[0, list(row)] = 1
        gates.append(gate)
    return gates


def _gate(gates: torch.Tensor) -> Any:
    def multiply(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        first, *rest = inputs
        width = first.shape[-1] // gates.shape[-1]
        wide = gates.to(first.device).repeat_interleave(width, -1)
        # [rows, length, width]
        return (first * wide.view(len(gates), *[1] * (first.dim() - 2), -1), *rest)

    return multiply


def _open(layers: int, rows: int, count: int, device: torch.device) -> list[torch.Tensor]:
    return [torch.ones(rows, count, device=device, requires_grad=True) for _ in range(layers)]
