"""Fewer layers: what a student that is cut out of its teacher starts from."""

from typing import Any

import numpy as np
from torch import nn

from textassay.console import counted
from textassay.errors import UsageError


def keep_layers(backbone: Any, count: int) -> list[int]:
    """Keep `count` of a transformer's layers, evenly spread from first to last; their numbers.

    Six of twelve are those that DistilBERT starts from (Sanh et al. 2019). Weights and config are
    changed in place; load the model anew after saving it, since layers may know their numbers.
    Raises UsageError where there are not more layers than that, or it is not plain where they are.
    """
    total = int(getattr(backbone.config, "num_hidden_layers", 0))
    stacks = [name for name, module in backbone.named_modules()
              if isinstance(module, nn.ModuleList) and len(module) == total]  # fmt: skip
    if not total or len(stacks) != 1:
        raise UsageError(
            f"distillation.student_layers: a {backbone.config.model_type} is not one stack of "
            "layers, so none can be cut out; name a student with --student."
        )
    if count >= total:
        raise UsageError(
            f"distillation.student_layers: {count} is not fewer than the teacher's "
            f"{counted(total, 'layer')}."
        )
    kept: list[int] = np.linspace(0, total - 1, count).round().astype(int).tolist()
    layers = backbone.get_submodule(stacks[0])
    backbone.set_submodule(stacks[0], nn.ModuleList(layers[index] for index in kept))
    backbone.config.num_hidden_layers = count
    kinds = getattr(backbone.config, "layer_types", None)
    if kinds:  # one name a layer, where layers differ in their attention
        backbone.config.layer_types = [kinds[index] for index in kept]
    return kept
