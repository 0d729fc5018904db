"""Do stored weights fit the model that a config describes? One verdict for loader and doctor.

Both load with transformers and PEFT, the loader with weights and the doctor on the meta device, and
both read the libraries' reports here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from textassay.artifacts.zero.checkpoint import PEFT_PREFIX
from textassay.console import counted
from textassay.errors import TextassayError

HEAD_ADVICE = "Save the model together with its head, or train again; without it, it guesses."
FIT_ADVICE = "Put config.json and weights of one training together."
ONE_TRAINING = "Put adapter, configs and base of one training together."
# Other models of one architecture: what they hold beside the backbone is no use to a classifier,
# and is often left in its file.
OTHER_MODELS = (
    transformers.MODEL_MAPPING,
    transformers.MODEL_FOR_PRETRAINING_MAPPING,
    transformers.MODEL_FOR_MASKED_LM_MAPPING,
    transformers.MODEL_FOR_CAUSAL_LM_MAPPING,
    transformers.MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    transformers.MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING,
)

# How PEFT's names begin: inside a tuner, and with virtual tokens, which need none.
PREFIXES = (PEFT_PREFIX, PEFT_PREFIX.removesuffix("model."))

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Misfit:
    """What makes predictions wrong or impossible, beginning with its place, and what to do."""

    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what} {self.advice}"


@dataclass(frozen=True)
class StoredTensors:
    """Shapes by name, as the headers of weight files give them, and the file of each."""

    shapes: Mapping[str, Shape]
    files: Mapping[str, str]

    def of_module(self, name: str) -> Shape | None:
        """The shape of a module's weight in an adapter; where it is not saved, None."""
        names = (f"{prefix}{name}.weight" for prefix in PREFIXES)
        return next((self.shapes[name] for name in names if name in self.shapes), None)

    def file_of(self, name: str) -> str:
        """The name of the file that holds a tensor; of the first file for one that is in none."""
        return self.files.get(name) or next(iter(self.files.values()), "the weights")


@dataclass(frozen=True)
class AdapterKeys:
    """What an adapter must hold, what it may hold, and how names in the backbone begin.

    `unfilled` are the tensors that the base does not hold, in the adapter's spelling.
    """

    wanted: Mapping[str, Shape]
    allowed: frozenset[str]
    unfilled: frozenset[str]
    backbone: str


def several(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{names[0]}{more}"


def model_misfits(model: Any, info: Mapping[str, Any], stored: StoredTensors) -> list[Misfit]:
    """What a load would make up, or leave over, by transformers' report on it."""
    prefix = f"{model.base_model_prefix}."
    missing = sorted(info["missing_keys"])
    head = [key for key in missing if not key.startswith(prefix)]
    weights = stored.file_of("")
    misfits = []
    if head:
        misfits.append(_without_head(weights, head))
    elif missing:
        what = f"{weights}: the tensor {several(missing)} is missing, which the config wants."
        misfits.append(Misfit(what, FIT_ADVICE))
    mismatched = sorted(info["mismatched_keys"], key=lambda found: (len(found[1]) < 2, found[0]))
    for key, found, wanted in mismatched[:1]:
        name = _spelt(key, stored)
        misfits.append(shape_misfit(name, found, wanted, len(model.config.id2label), stored))
    left = sorted(set(info["unexpected_keys"]) - unused_keys(model, info["unexpected_keys"]))
    if left:
        what = f"{weights}: the tensor {several(left)} belongs to nothing in the config's model."
        misfits.append(Misfit(what, FIT_ADVICE))
    return misfits


def _without_head(weights: str, missing: Sequence[str]) -> Misfit:
    what = f"{weights}: the classification head is missing ({several(missing)})."
    return Misfit(what, HEAD_ADVICE)


def unused_keys(model: Any, unexpected: Sequence[str] | set[str]) -> set[str]:
    """Those left-over keys that another model of the same architecture has, and no classifier uses.

    A pooler or the head of a language model, for example, which a training left in the file.
    """
    if not unexpected:
        return set()
    prefix = f"{model.base_model_prefix}."
    known: set[str] = set()
    for mapping in OTHER_MODELS:
        named = mapping.get(type(model.config), ())
        for other in named if isinstance(named, tuple) else (named,):
            try:
                with torch.device("meta"):
                    keys = set(other(model.config).state_dict())
            except (TypeError, ValueError, AttributeError, TextassayError):
                continue  # it cannot be built by a classifier's config, so it left nothing here
            known |= keys | {prefix + key for key in keys}
    return {key for key in unexpected if key in known}


def shape_misfit(
    key: str, found: Sequence[int], wanted: Sequence[int], labels: int, stored: StoredTensors
) -> Misfit:
    """A tensor of another shape than the config's model has, or of another label count."""
    file = stored.file_of(key)
    if list(found[1:]) == list(wanted[1:]) and wanted[0] == labels:
        return Misfit(
            f"{file}: the head {key} gives {counted(found[0], 'label')}, where id2label in "
            "config.json names "
            f"{labels}.",
            "Write the labels of the training into config.json, all of them and in their order.",
        )
    return Misfit(
        f"{file}: {key} has the shape {list(found)}, where the config wants {list(wanted)}.",
        FIT_ADVICE,
    )


def adapter_misfits(keys: AdapterKeys, labels: int, stored: StoredTensors) -> list[Misfit]:
    """What an adapter and its base lack together, or what is left over."""
    weights = stored.file_of("")
    names = set(stored.shapes)
    missing = sorted((keys.wanted.keys() | keys.unfilled) - names)
    head = [name for name in missing if not name.startswith(keys.backbone)]
    misfits = []
    if head:
        misfits.append(_without_head(weights, head))
    elif missing:
        what = f"{weights}: the tensor {several(missing)} is missing, so it would start at random."
        advice = f"Neither the base nor the adapter holds it. {ONE_TRAINING}"
        misfits.append(Misfit(what, advice))
    left = sorted(name for name in names if not _is_known(name, keys))
    if left:
        what = f"{weights}: the tensor {several(left)} belongs to nothing in the base's model."
        misfits.append(Misfit(what, ONE_TRAINING))
    other = [name for name in sorted(keys.wanted.keys() & names)
             if keys.wanted[name] != stored.shapes[name]]  # fmt: skip
    for name in sorted(other, key=lambda name: len(keys.wanted[name]) < 2)[:1]:
        found, wanted = stored.shapes[name], keys.wanted[name]
        misfits.append(shape_misfit(name, found, wanted, labels, stored))
    return misfits


def adapter_keys(wrapped: Any, info: Mapping[str, Any]) -> AdapterKeys:
    """What PEFT's model saves and takes; `info` is transformers' report on loading its base."""
    from textassay.models.peft_library import peft

    prefix = PREFIXES[wrapped.active_peft_config.is_prompt_learning]
    saved = peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    other = (key for key, *_ in info["mismatched_keys"])
    return AdapterKeys(
        {name: tuple(tensor.shape) for name, tensor in saved.items()},
        frozenset(wrapped.state_dict()),
        frozenset(prefix + key for key in (*info["missing_keys"], *other)),
        f"{prefix}{wrapped.get_base_model().base_model_prefix}.",
    )


def _is_known(name: str, keys: AdapterKeys) -> bool:
    """Whether PEFT finds a place for a saved tensor.

    With a resized embedding among the modules to save, it writes that twice more, under the names
    that it has inside its own wrapper.
    """
    plain = name.replace(".modules_to_save.", ".").replace(".original_module.", ".")
    return name in keys.wanted or name in keys.allowed or plain in keys.wanted


def _spelt(key: str, stored: StoredTensors) -> str:
    """A key of the model as the file has it; some files leave the backbone's name out."""
    ends = (name for name in stored.shapes if name == key or key.endswith(f".{name}"))
    return next(ends, key)
