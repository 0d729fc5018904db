"""A classifier out of a base model and labels: the head, the pad token, the label names."""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoTokenizer

from textassay.config.schema import ModelSection
from textassay.console import counted
from textassay.data.labels import LabelMap
from textassay.data.prompt import Prompt
from textassay.data.tokenizer_growth import refuse_growing_texts
from textassay.errors import UsageError, first_line
from textassay.models.heads import (
    LABEL_SCORING,
    MlpHead,
    classifier_class,
    own_forward,
)
from textassay.models.inputs import bind_to_mask
from textassay.models.proportion import refuse_larger, refuse_odd_counts, stored_shapes
from textassay.models.pruning import PRUNED
from textassay.models.quantization import (
    STORED_QUANTIZATION,
    is_quantized,
    loading_arguments,
    prepare_quantized,
    prepare_stored,
    quantization_settings,
)
from textassay.models.scoring import label_token_ids, refuse_other_scores, tokens_behind
from textassay.models.source import SETTINGS_KEY, Source, checkpoint_shapes, weight_files

VOCABULARIES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
# transformers' own sign of a tokenizer that cuts nothing.
NO_LIMIT = int(1e30)
# What transformers, tokenizers and safetensors raise for files that are not what they should be.
UNREADABLE = (
    OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError, SafetensorError,
    UnpicklingError,
)  # fmt: skip


@dataclass
class BuiltClassifier:
    """A model with its tokenizer.

    `fresh` names the modules to train whole: the head, and those that the base left open.
    `unfilled` are the keys of weights that the base does not hold, which start at random.
    """

    model: Any
    tokenizer: Any
    fresh: list[str]
    unfilled: list[str] = field(default_factory=list)


def load_tokenizer(folder: str, max_length: int | None = None) -> Any:
    """The tokenizer of a model, padding on the right, with a pad token whatever the model."""
    if not has_vocabulary(Path(folder)):
        # transformers would build an empty tokenizer, to which every word is unknown.
        raise UsageError(f"{folder}: holds no tokenizer (tokenizer.json or a vocabulary).")
    refuse_odd_counts(Path(folder))  # the library may read the config too
    refuse_growing_texts(Path(folder) / "tokenizer.json")
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokenizer.model_max_length = _number_of_tokens(folder, tokenizer.model_max_length)
    if not tokenizer.is_fast:
        raise UsageError(f"{folder}: has no fast tokenizer (tokenizer.json), which is needed.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise UsageError(
            f"{folder}: its tokenizer has no pad, end or unknown token, so texts of different "
            "length cannot be put into one batch; name one in its tokenizer_config.json."
        )
    tokenizer.padding_side = "right"
    if max_length is not None:
        tokenizer.model_max_length = max_length
    return tokenizer


def _number_of_tokens(folder: str, told: Any) -> int:
    """The `model_max_length` of a tokenizer, which some programs write as text."""
    try:
        number = NO_LIMIT if told is None else int(float(told))
    except (TypeError, ValueError, OverflowError):
        number = 0
    if number < 1:
        raise UsageError(
            f"{folder}: tokenizer_config.json: model_max_length is {told!r}, no number of tokens; "
            "write one, or take it out."
        )
    return number


def load_config(folder: Path, **settings: Any) -> Any:
    """The config of a model, with these settings instead of its own. No code of its own is run.

    GateError where it counts what no model has so many of; else raises what transformers raises.
    """
    refuse_odd_counts(folder)
    return AutoConfig.from_pretrained(folder, trust_remote_code=False, **settings)


def has_vocabulary(folder: Path) -> bool:
    """Whether a tokenizer lies in a folder."""
    return any((folder / name).is_file() for name in VOCABULARIES)


def build_classifier(
    source: Source,
    labels: LabelMap,
    section: ModelSection,
    prompt: Prompt | None,
    trained_whole: Sequence[str] = (),
) -> BuiltClassifier:
    """The base model with a head for these labels, on the CPU, in fp32 unless it is quantised.

    The head, and whatever else the checkpoint does not hold or holds in another shape, starts from
    the process's random state. `trained_whole` names modules that are trained as they are, which
    are never quantised. Raises UsageError where the checkpoint does not fit its own config.
    """
    weights = weight_files(source.path)
    with _readable(source, "its tokenizer"):
        tokenizer = load_tokenizer(str(source.path), section.max_seq_length)
    with _readable(source, "its config.json"):
        config = load_config(
            source.path,
            num_labels=len(labels),
            id2label=dict(enumerate(labels.names)),
            label2id=labels.label2id,
            problem_type="single_label_classification",
        )
    _agree_on_pad_token(tokenizer, config)
    label_tokens, behind = None, 0
    if section.head == LABEL_SCORING:
        if prompt is None:
            raise UsageError("model.head: label_scoring needs data.prompt, whose end asks for it.")
        label_tokens, behind = label_token_ids(tokenizer, labels, prompt), tokens_behind(tokenizer)
    settings = input_settings(section, prompt, label_tokens, behind)
    own = getattr(config, SETTINGS_KEY, None) or {}
    if PRUNED in own:  # the base has fewer heads than the library's config can say
        settings[PRUNED] = own[PRUNED]
    setattr(config, SETTINGS_KEY, settings)
    with _readable(source, f"{config.model_type}, {weights[0].name}"):
        if section.load_in_4bit:
            with refuse_larger(f"{source.path}: config.json", stored_shapes(source.path)):
                plain = skeleton(config)
            fresh = fresh_modules(plain, checkpoint_shapes(source.path), source.name)
            # PEFT takes the end of a path for a module's name, bitsandbytes its beginning.
            named = [n for n, _ in plain.named_modules() if n.endswith(tuple(trained_whole))]
            whole = [*beside_backbone(plain), *fresh, *named]
            settings["quantization"] = quantization_settings(section, plain, whole)
        model, info = load_weights(str(source.path), config, tokenizer)
    refuse_too_long(model, section.max_seq_length + longest(label_tokens))
    if label_tokens and prompt:
        _refuse_window(model, section.max_seq_length, longest(label_tokens))
        ids, _ = prompt.encode("A text.", tokenizer, section.max_seq_length)
        refuse_other_scores(model, own_forward(model), ids, label_tokens, behind)
    unfilled = _unfilled(info)
    fresh = _modules_of(model, unfilled, source.name)
    return BuiltClassifier(model, tokenizer, fresh, unfilled)


def longest(label_tokens: list[list[int]] | None) -> int:
    """How many tokens label scoring puts behind a text at most."""
    return max(len(tokens) for tokens in label_tokens) - 1 if label_tokens else 0


def skeleton(config: Any) -> Any:
    """The classifier that a config of ours describes, with tensors on `meta`: no weights."""
    settings = getattr(config, SETTINGS_KEY)
    with torch.device("meta"):
        return classifier_class(config, settings)(config)


@contextmanager
def _readable(source: Source, part: str) -> Iterator[None]:
    """What the libraries raise for broken files, as a UsageError that names the part."""
    try:
        yield
    except UNREADABLE as error:
        first = first_line(error)
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


def load_weights(folder: str, config: Any, tokenizer: Any) -> tuple[Any, dict[str, Any]]:
    """A classifier and the library's report on keys; its warnings are silenced.

    Head and quantisation are what the config's own settings say. The caller checks the report,
    which the warnings only repeat.
    """
    settings = getattr(config, SETTINGS_KEY, None) or {}
    quantization = settings.get("quantization")
    model_class = classifier_class(config, settings)
    arguments = loading_arguments(quantization, config)
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        with refuse_larger(f"{folder}: config.json", stored_shapes(Path(folder))):
            model, info = model_class.from_pretrained(
                folder,
                config=config,
                dtype="float32",
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                weights_only=True,
                trust_remote_code=False,
                **arguments,
            )
    finally:
        transformers.logging.set_verbosity(before)
    unfilled = _unfilled(info)
    for name, module in model.named_modules():
        if isinstance(module, MlpHead):
            module.reset_parameters({key.removeprefix(f"{name}.") for key in unfilled})
    bind_to_mask(model, tokenizer)
    if getattr(config, STORED_QUANTIZATION, None) is not None:
        if is_quantized(model):
            prepare_stored(model)
    elif quantization:
        prepare_quantized(model)
    return model, info


def _unfilled(info: Mapping[str, Any]) -> list[str]:
    """The keys that a checkpoint does not hold, or holds in another shape."""
    return sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})


def input_settings(
    section: ModelSection,
    prompt: Prompt | None,
    label_tokens: list[list[int]] | None = None,
    tokens_behind_text: int = 0,
) -> dict[str, Any]:
    """What a predictor must know beside the library's config; kept in it."""
    return {
        "max_seq_length": section.max_seq_length,
        "prompt": None if prompt is None else {"head": prompt.head, "tail": prompt.tail},
        "head": section.head,
        "label_tokens": label_tokens,
        "tokens_behind_text": tokens_behind_text,
        "quantization": None,
    }


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, all) parameters; shared ones and those in 4 bits count once."""
    sizes = [(parameter.requires_grad, _size(parameter)) for parameter in model.parameters()]
    return sum(size for trains, size in sizes if trains), sum(size for _, size in sizes)


def _size(parameter: nn.Parameter) -> int:
    packed = getattr(parameter, "quant_state", None)
    return parameter.numel() if packed is None else math.prod(packed.shape)


def is_adapter(model: Any) -> bool:
    """Whether PEFT wraps the model. PEFT is not imported to find out."""
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(model, peft.PeftModel)


def positions_of(config: Any) -> int | None:
    """How many positions a model has by its config; None where it has no limit (XLNet: -1)."""
    positions = getattr(config, "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def count_positions(model: Any) -> int | None:
    """How many tokens a text may have for a model; None where it has no limit."""
    for name, module in model.named_modules():
        # RoBERTa and its kin count positions from the padding index on.
        if (
            name.endswith("position_embeddings")
            and getattr(module, "padding_idx", None) is not None
        ):
            return int(module.num_embeddings - module.padding_idx - 1)
    return positions_of(model.config)


def count_vocabulary(model: Any) -> int:
    """How many rows the embeddings of tokens have."""
    return int(model.get_input_embeddings().weight.shape[0])


def refuse_too_long(model: Any, max_length: int) -> None:
    """UsageError where texts of `max_length` tokens have more positions than the model."""
    positions = count_positions(model)
    if positions and max_length > positions:
        raise UsageError(
            f"model.max_seq_length: {max_length} is more than the {positions} positions that the "
            "model has; lower it."
        )


def _refuse_window(model: Any, max_length: int, longest_label: int) -> None:
    """UsageError where the model looks back less far than a label has to in label scoring."""
    window = getattr(model.config, "sliding_window", None)
    if window and longest_label and window < max_length + longest_label:
        raise UsageError(
            f"model.max_seq_length: label_scoring lets each label see the whole text, and this "
            f"model looks back {window} tokens at most; lower it to {window - longest_label}, or "
            "use a linear head."
        )


def fresh_modules(model: Any, checkpoint: Mapping[str, Sequence[int]], name: str) -> list[str]:
    """Modules to train and save beside an adapter, found by comparing keys and shapes alone.

    `checkpoint` is {key: shape}; no weights are needed, neither the model's nor the checkpoint's.
    """
    prefix = f"{model.base_model_prefix}."
    held = {_plain_key(key, prefix): tuple(shape) for key, shape in checkpoint.items()}
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    unfilled = [
        key for key, tensor in model.state_dict().items()
        if held.get(key.removeprefix(prefix)) != tuple(tensor.shape) and key not in tied
    ]  # fmt: skip
    return _modules_of(model, unfilled, name)


def _plain_key(key: str, prefix: str) -> str:
    """A checkpoint's key without the backbone's prefix, and as it is spelt today."""
    plain = key.removeprefix(prefix)
    for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
        plain = plain.replace(old, new)
    return plain


def _modules_of(model: Any, unfilled: list[str], name: str) -> list[str]:
    """The head, and the modules inside the backbone that the checkpoint left open."""
    backbone = f"{model.base_model_prefix}."
    inside = [key for key in unfilled if key.startswith(backbone)]
    total = sum(1 for key in model.state_dict() if key.startswith(backbone))
    if len(inside) > total / 4:
        raise UsageError(
            f"{name}: its weights do not fit its config ({len(inside)} of "
            f"{counted(total, 'tensor')} "
            f"of the backbone are missing, {inside[0]} among them); it is another architecture."
        )
    parents = {key.rpartition(".")[0] for key in inside}
    if getattr(model.config, SETTINGS_KEY)["head"] == LABEL_SCORING:
        outside = [key for key in unfilled if not key.startswith(backbone)]
        if outside:
            raise UsageError(
                f"{name}: holds no {outside[0]}; label_scoring needs a language model."
            )
        return sorted(parents)
    return [*beside_backbone(model), *sorted(parents)]


def beside_backbone(model: Any) -> list[str]:
    """The modules with weights beside the backbone: a head, or the output layer of an LM."""
    children = [child for child, module in model.named_children() if list(module.parameters())]
    return [child for child in children if child != model.base_model_prefix]
