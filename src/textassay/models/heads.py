"""What turns hidden states into a score for each label: a linear layer, an MLP, or label tokens.

Each is a model class of transformers, or a subclass of one that bears its name, so that loading,
saving, adapters and the Trainer treat it like any other.
"""

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from textassay.errors import UsageError
from textassay.models.pruning import HEADS, PRUNED, keep_first_heads
from textassay.models.scoring import score_labels

LABEL_SCORING = "label_scoring"

MLP_WIDTHS = (512, 256)
MLP_DROPOUT = 0.1


class MlpHead(nn.Sequential):
    """input -> 512 -> 256 -> labels, Xavier uniform, with ReLU and dropout between."""

    def __init__(self, width: int, labels: int) -> None:
        layers: list[nn.Module] = []
        for inner in MLP_WIDTHS:
            layers += [nn.Linear(width, inner), nn.ReLU(), nn.Dropout(MLP_DROPOUT)]
            width = inner
        super().__init__(*layers, nn.Linear(width, labels))

    def reset_parameters(self, unfilled: Collection[str]) -> None:
        """Xavier-uniform weights, zero biases, in the layers whose `0.weight` is named."""
        for name, layer in self.named_children():
            if isinstance(layer, nn.Linear) and f"{name}.weight" in unfilled:
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)


def classifier_class(config: Any, settings: Mapping[str, Any]) -> Any:
    """The model class for this architecture and these settings of ours (`input_settings`).

    UsageError where there is none.
    """
    head = settings.get("head", "linear")
    scoring = head == LABEL_SCORING
    classes = MODEL_FOR_CAUSAL_LM_MAPPING if scoring else MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    if type(config) not in classes:
        what = "language model" if scoring else "text classifier"
        raise UsageError(
            f"{config.name_or_path}: transformers has no {what} for {config.model_type} models."
        )
    if scoring and type(config) in MODEL_FOR_MASKED_LM_MAPPING:
        # transformers lets BERT and its kin pass for language models; they see what comes after.
        raise UsageError(
            f"{config.name_or_path}: label_scoring needs a decoder, and {config.model_type} models "
            "are encoders; use a linear head."
        )
    plain = classes[type(config)]
    if settings.get(PRUNED):
        plain = _with_fewer_heads(plain, settings[PRUNED][HEADS])
    if head == "mlp":
        return _with_mlp_head(plain)
    if scoring:
        if "position_ids" not in inspect.signature(plain.forward).parameters:
            raise UsageError(
                f"{config.name_or_path}: label_scoring sets the positions of the labels, which "
                f"{config.model_type} models do not let it; use a linear head."
            )
        return _with_label_scoring(plain, settings["label_tokens"], settings["tokens_behind_text"])
    return plain


def output_layer(model: Any) -> tuple[str, nn.Linear]:
    """Name and module of the linear layer whose outputs are the labels."""
    found = None
    for name, module in model.named_modules():
        inside = name.startswith(f"{model.base_model_prefix}.")
        if not inside and type(module) is nn.Linear and module.out_features == model.num_labels:
            found = name, module
    if found is None:
        raise UsageError(f"{model.config.model_type}: no linear layer gives the labels.")
    return found


def own_forward(scorer: Any) -> Any:
    """The `forward` of the language model that a scorer is made of, as a function of the model."""
    plain: Any = type(scorer).__mro__[1]
    return plain.forward


def _with_fewer_heads(plain: Any, heads: int) -> Any:
    def build(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        plain.__init__(self, config, *args, **kwargs)
        keep_first_heads(self, heads)

    return _subclass(plain, {"__init__": build})


def _with_mlp_head(plain: Any) -> Any:
    def build(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        plain.__init__(self, config, *args, **kwargs)
        name, layer = output_layer(self)
        parent, _, child = name.rpartition(".")
        setattr(self.get_submodule(parent), child, MlpHead(layer.in_features, layer.out_features))

    return _subclass(plain, {"__init__": build})


def _with_label_scoring(plain: Any, label_tokens: list[list[int]], behind: int) -> Any:
    def forward(
        self: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any
    ) -> SequenceClassifierOutput:
        return SequenceClassifierOutput(
            logits=score_labels(self, input_ids, attention_mask, label_tokens, behind)
        )

    return _subclass(plain, {"forward": forward})


def _subclass(plain: Any, members: dict[str, Any]) -> Any:
    """A subclass under the same name, which is what transformers writes into config.json."""
    return type(plain.__name__, (plain,), {**members, "__module__": plain.__module__})
