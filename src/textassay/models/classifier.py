"""A classifier out of a base model and labels: the head, the pad token, the label names."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from textassay.data.labels import LabelMap
from textassay.data.prompt import Prompt
from textassay.errors import UsageError
from textassay.models.source import Source, weight_files

SETTINGS_KEY = "textassay"
VOCABULARIES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
# What transformers, tokenizers and safetensors raise for files that are not what they should be.
UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, SafetensorError, UnpicklingError)


@dataclass
class BuiltClassifier:
    """A model with its tokenizer. `fresh` names the modules whose weights are not the base's."""

    model: Any
    tokenizer: Any
    fresh: list[str]


def load_tokenizer(folder: str, max_length: int | None = None) -> Any:
    """The tokenizer of a model, padding on the right, with a pad token whatever the model."""
    if not any((Path(folder) / name).is_file() for name in VOCABULARIES):
        # transformers would build an empty tokenizer, to which every word is unknown.
        raise UsageError(f"{folder}: holds no tokenizer (tokenizer.json or a vocabulary).")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if not tokenizer.is_fast:
        raise UsageError(f"{folder}: has no fast tokenizer (tokenizer.json), which is needed.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    tokenizer.padding_side = "right"
    if max_length is not None:
        tokenizer.model_max_length = max_length
    return tokenizer


def build_classifier(
    source: Source, labels: LabelMap, max_length: int, prompt: Prompt | None
) -> BuiltClassifier:
    """The base model with a head for these labels, in fp32 on the CPU.

    The head, and whatever else the checkpoint does not hold or holds in another shape, starts from
    the process's random state. Raises UsageError where the checkpoint does not fit its own config.
    """
    weights = weight_files(source.path)
    with _readable(source, "its tokenizer"):
        tokenizer = load_tokenizer(str(source.path), max_length)
    with _readable(source, "its config.json"):
        config = AutoConfig.from_pretrained(
            source.path,
            num_labels=len(labels),
            id2label=dict(enumerate(labels.names)),
            label2id=labels.label2id,
            problem_type="single_label_classification",
        )
    _agree_on_pad_token(tokenizer, config)
    setattr(config, SETTINGS_KEY, input_settings(max_length, prompt))
    with _readable(source, f"{config.model_type}, {weights[0].name}"):
        model, info = load_weights(str(source.path), config)
    _refuse_too_long(model, max_length)
    unfilled = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    return BuiltClassifier(model, tokenizer, _fresh_modules(model, unfilled, source))


@contextmanager
def _readable(source: Source, part: str) -> Iterator[None]:
    """What the libraries raise for broken files, as a UsageError that names the part."""
    try:
        yield
    except UNREADABLE as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise UsageError(
            f"{source.name}: is not a text model that can be read ({part}: "
            f"{type(error).__name__}: {first[:300]})."
        ) from None


def _agree_on_pad_token(tokenizer: Any, config: Any) -> None:
    """One pad token in model and tokenizer: the model's, where it has one.

    Decoders find the last token by it, and RoBERTa and its kin count positions from it.
    """
    own = config.pad_token_id
    if own is not None and 0 <= own < len(tokenizer):
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(own)
    config.pad_token_id = tokenizer.pad_token_id


def load_weights(folder: str, config: Any) -> tuple[Any, dict[str, Any]]:
    """A sequence classifier in fp32 and the library's report on keys; its warnings are silenced.

    The caller checks the report, which the warnings only repeat.
    """
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype="float32",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            weights_only=True,
        )
    finally:
        transformers.logging.set_verbosity(before)
    return model, info


def input_settings(max_length: int, prompt: Prompt | None) -> dict[str, Any]:
    """What a predictor must know about the input; kept in the model's config."""
    return {
        "max_seq_length": max_length,
        "prompt": None if prompt is None else {"head": prompt.head, "tail": prompt.tail},
    }


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, all) parameters; shared ones count once."""
    parameters = list(model.parameters())
    return (
        sum(p.numel() for p in parameters if p.requires_grad),
        sum(p.numel() for p in parameters),
    )


def _refuse_too_long(model: Any, max_length: int) -> None:
    positions = getattr(model.config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        # RoBERTa and its kin count positions from the padding index on.
        if (
            name.endswith("position_embeddings")
            and getattr(module, "padding_idx", None) is not None
        ):
            positions = module.num_embeddings - module.padding_idx - 1
    if positions and max_length > positions:
        raise UsageError(
            f"model.max_seq_length: {max_length} is more than the {positions} positions that the "
            "model has; lower it."
        )


def _fresh_modules(model: Any, unfilled: list[str], source: Source) -> list[str]:
    """Modules to train and save beside an adapter: the head, and what the checkpoint left open."""
    backbone = f"{model.base_model_prefix}."
    inside = [key for key in unfilled if key.startswith(backbone)]
    total = sum(1 for key in model.state_dict() if key.startswith(backbone))
    if len(inside) > total / 4:
        raise UsageError(
            f"{source.name}: its weights do not fit its config ({len(inside)} of {total} tensors "
            f"of the backbone are missing, {inside[0]} among them); it is another architecture."
        )
    children = [name for name, child in model.named_children() if list(child.parameters())]
    head = [name for name in children if name != model.base_model_prefix]
    parents = {key.rpartition(".")[0] for key in inside}
    return [*head, *sorted(parents)]
