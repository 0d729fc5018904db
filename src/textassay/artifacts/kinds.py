"""Directories that can predict: how each kind is recognised, saved and loaded."""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from transformers import PreTrainedTokenizerFast

from textassay.artifacts.adapters import adapter_notes, load_adapter, open_adapter, read_config
from textassay.artifacts.fitting import StoredTensors, model_misfits
from textassay.artifacts.identify import ADAPTER, ADAPTER_CONFIG, MODEL
from textassay.artifacts.label_config import label_names, unsupported_problem
from textassay.artifacts.onnx_files import ONNX, ONNX_INT8, onnx_kind
from textassay.artifacts.onnx_model import OnnxModel, OnnxSettings
from textassay.artifacts.weights import WEIGHTS
from textassay.console import warn
from textassay.data.labels import LabelMap
from textassay.data.prompt import Prompt
from textassay.data.token_ids import encode_texts, refuse_unknown_tokens
from textassay.errors import GateError, TextassayError, UsageError, first_line
from textassay.files import read_json, write_json
from textassay.links import refuse_links
from textassay.models.classifier import (
    count_positions,
    count_vocabulary,
    is_adapter,
    load_tokenizer,
    load_weights,
)
from textassay.models.predict import compute_logits
from textassay.models.quantization import is_quantized
from textassay.models.source import SETTINGS_KEY, Source, checkpoint_shapes, weight_files

BATCH_SIZE = 64
LONGEST_UNTOLD = 512


@dataclass
class Loaded:
    """An artifact in memory, in fp32 on the CPU, with what it needs to read a text.

    `model` is a module of torch or an `OnnxModel`. Logits divided by `temperature` are calibrated;
    it is 1 where the artifact was not calibrated.
    """

    kind: str
    model: Any
    tokenizer: Any
    labels: LabelMap
    max_length: int
    prompt: Prompt | None
    base: Source | None
    temperature: float = 1.0

    @property
    def is_quantized(self) -> bool:
        """Whether it computes with fewer than 16 bits: a base in 4 bits, or INT8."""
        return is_quantized(self.model) or self.kind == ONNX_INT8

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, prompt included, cut to `max_length`.

        Raises DataError for a text with a token that the model does not have.
        """
        found = encode_texts(list(texts), self.tokenizer, self.max_length, self.prompt)[0]
        self._refuse_unknown_tokens(found)
        return found

    def _refuse_unknown_tokens(self, input_ids: Sequence[Sequence[int]]) -> None:
        if isinstance(self.model, OnnxModel):
            self.model.refuse_unknown_tokens(input_ids)
            return
        rows = count_vocabulary(self.model)
        if len(self.tokenizer) > rows:
            refuse_unknown_tokens(input_ids, rows, self.tokenizer.convert_ids_to_tokens)

    def logits(
        self, input_ids: Sequence[Sequence[int]], batch_size: int | None = None, device: Any = None
    ) -> np.ndarray:
        """Logits of shape [rows, labels] in fp32, before the temperature.

        The model is moved to `device`, or stays where it is. Without a `batch_size` it is what
        suits the model. Raises DataError for a text with a token that the model does not have.
        """
        if isinstance(self.model, OnnxModel):
            return self.model.logits(input_ids, batch_size)
        self._refuse_unknown_tokens(input_ids)
        model = self.model.to(device) if device else self.model
        pad = self.tokenizer.pad_token_id
        return compute_logits(model, input_ids, pad, batch_size or BATCH_SIZE)

    def leave_device(self) -> None:
        """Go back to the CPU's memory; an ONNX session stays where it was opened."""
        if not isinstance(self.model, OnnxModel):
            self.model.to("cpu")


def find_kind(folder: Path) -> str:
    """`adapter`, `model`, `onnx` or `onnx-int8`. UsageError for a directory that is neither."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such directory.")
    onnx = onnx_kind(folder)
    if onnx:
        return onnx
    if (folder / ADAPTER_CONFIG).is_file():
        return ADAPTER
    if (folder / "config.json").is_file():
        return MODEL
    raise UsageError(
        f"{folder}: is no artifact (neither adapter_config.json, nor config.json, nor an ONNX file "
        "is in it); a run's artifact is in its model/ directory."
    )


def save_weights(model: Any, folder: Path, max_shard_size: int | None = None) -> None:
    """Weights and config of a model, or adapter, head and config of an adapter. No network.

    `max_shard_size` is in bytes; without one the library cuts where it likes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if is_adapter(model):
        # "auto" would ask the hub whether the vocabulary grew; ours never does.
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)
        model.config.save_pretrained(folder)
    else:
        limit = {"max_shard_size": max_shard_size} if max_shard_size else {}
        model.save_pretrained(folder, **limit)
    for weights in folder.glob("*.safetensors"):
        # The library makes them the owner's alone; who may read the rest may read them.
        weights.chmod((folder / "config.json").stat().st_mode)
    _refuse_empty_tensors(folder)


def write_configs(model: Any, folder: Path) -> None:
    """What `save_weights` writes beside the weights, without them."""
    folder.mkdir(parents=True, exist_ok=True)
    if is_adapter(model):
        config = copy.copy(model.peft_config[model.active_adapter])
        config.inference_mode = True
        config.save_pretrained(folder)
        model.config.save_pretrained(folder)
    else:
        config = copy.copy(model.config)
        config.architectures = [type(model).__name__]
        config.save_pretrained(folder)


def set_temperature(folder: Path, loaded: Loaded, temperature: float) -> None:
    """Store the temperature in an artifact's config.json, and in the artifact as it was loaded."""
    content = read_json(folder / "config.json")
    content[SETTINGS_KEY] = {**(content.get(SETTINGS_KEY) or {}), "temperature": temperature}
    write_json(folder / "config.json", content)
    loaded.temperature = temperature


def restore_weights(model: Any, folder: Path) -> None:
    """Put saved weights back into a model of the same make; every tensor must find its place."""
    from safetensors.torch import load_file, load_model

    if is_adapter(model):
        from textassay.models.peft_library import peft

        saved = load_file(folder / WEIGHTS[ADAPTER])
        _refuse_other_keys(
            folder,
            set(saved),
            set(peft.get_peft_model_state_dict(model, save_embedding_layers=False)),
        )
        peft.set_peft_model_state_dict(model, saved)
        return
    shards = sorted(folder.glob("model*.safetensors"))
    if len(shards) == 1:
        load_model(model, shards[0], strict=True)
        return
    state: dict[str, Any] = {}
    for shard in shards:
        state.update(load_file(shard))
    model.load_state_dict(state, strict=True)


def load_artifact(folder: Path, base: str | None = None, tell: bool = True) -> Loaded:
    """Load an artifact strictly: no key missing, none left over that counts, no head made up.

    `base` names the base of an adapter where it lies elsewhere than the adapter says. `tell` warns
    of what someone should know of it. Raises GateError where the directory does not hold a whole
    classifier.
    """
    kind = find_kind(folder)
    refuse_links(folder)
    if kind in (ONNX, ONNX_INT8):
        return _load_onnx(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries', about names that they will change
        try:
            return _load_adapter(folder, base, tell) if kind == ADAPTER else _load_model(folder)
        except (TextassayError, MemoryError):
            raise
        except Exception as error:  # of four libraries, each with errors of its own for odd files
            first = first_line(error)
            raise GateError(
                f"{folder}: cannot be read as {kind} ({type(error).__name__}: {first[:300]}); a "
                "file is broken, or of something else."
            ) from None


def _load_model(folder: Path) -> Loaded:
    config = read_config(folder)
    labels = read_labels(folder, config)
    tokenizer = load_tokenizer(str(folder))
    model, info = load_weights(str(folder), config, tokenizer)
    if info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"]:
        shapes = checkpoint_shapes(folder)
        name = weight_files(folder)[0].name
        misfits = model_misfits(model, info, StoredTensors(shapes, dict.fromkeys(shapes, name)))
        if misfits:
            raise GateError(f"{folder}: {misfits[0]}")
    return _loaded(MODEL, folder, model, tokenizer, labels)


def _load_adapter(folder: Path, base: str | None, tell: bool) -> Loaded:
    opened = open_adapter(folder, base)
    labels = read_labels(folder, opened.config)
    tokenizer = opened.load_tokenizer()
    model = load_adapter(opened, tokenizer)
    for sentence in adapter_notes(opened) if tell else ():
        warn(f"{folder}: {sentence}")
    return _loaded(ADAPTER, folder, model, tokenizer, labels, opened.source)


def _loaded(
    kind: str, folder: Path, model: Any, tokenizer: Any, labels: LabelMap,
    source: Source | None = None,
) -> Loaded:  # fmt: skip
    _refuse_no_numbers(folder, model)
    _pad_with_known_token(model, tokenizer)
    settings = read_settings(folder, model.config)
    prompt = settings.get("prompt")
    longest = settings.get("max_seq_length") or _longest_input(tokenizer, model)
    return Loaded(
        kind, model.eval(), tokenizer, labels, longest, Prompt(**prompt) if prompt else None,
        source, _temperature(folder, settings),
    )  # fmt: skip


def _refuse_no_numbers(folder: Path, model: Any) -> None:
    for name, tensor in model.named_parameters():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise GateError(f"{folder}: the tensor {name} holds NaN or infinity; train it again.")


def _pad_with_known_token(model: Any, tokenizer: Any) -> None:
    """Pad with a token that the model has, and say in its config with which.

    What stands there does not matter, since the attention mask leaves it out.
    """
    rows = count_vocabulary(model)
    text = model.config.get_text_config()
    if tokenizer.pad_token_id >= rows:
        own = text.pad_token_id
        known = own if own is not None and 0 <= own < rows else 0
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(known)
    if text.pad_token_id is None:
        text.pad_token_id = tokenizer.pad_token_id


def _temperature(folder: Path, settings: dict[str, Any]) -> float:
    """What the logits are divided by; 1 where the artifact was not calibrated."""
    stored = settings.get("temperature")
    if stored is None:
        return 1.0
    if isinstance(stored, int | float) and 0 < stored < float("inf"):
        return float(stored)
    raise GateError(
        f"{folder}: config.json: the temperature is {stored!r}, no number above 0; it was changed."
    )


def _load_onnx(folder: Path) -> Loaded:
    model = OnnxModel(folder)
    settings = model.settings
    return Loaded(
        model.kind, model, _tokenizer_of(folder, settings), settings.labels, settings.max_length,
        settings.prompt, None, settings.temperature,
    )  # fmt: skip


def _tokenizer_of(folder: Path, settings: OnnxSettings) -> Any:
    """The tokenizer.json beside a graph and nothing else, as `OnnxModel.ids` reads it."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), truncation_side=settings.truncation_side
    )
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(settings.pad_id)
    return tokenizer


def read_settings(folder: Path, config: Any) -> dict[str, Any]:
    """Our settings in a model's config, empty in somebody else's. GateError where one is odd."""
    settings = getattr(config, SETTINGS_KEY, None) or {}
    length, prompt = settings.get("max_seq_length"), settings.get("prompt")
    if length is not None and (not isinstance(length, int) or length < 1):
        what = f"max_seq_length is {length!r}, no number of tokens"
    elif prompt is not None and not _is_prompt(prompt):
        what = "prompt is not what stands before and after a text (head, tail)"
    else:
        return dict(settings)
    raise GateError(f"{folder}: config.json: {SETTINGS_KEY}.{what}; it was changed.")


def _is_prompt(prompt: Any) -> bool:
    parts = prompt.values() if isinstance(prompt, dict) else ()
    keys = {"head", "tail"}
    return set(prompt) == keys and all(isinstance(part, str) for part in parts) if parts else False


def _refuse_other_keys(folder: Path, saved: set[str], wanted: set[str]) -> None:
    missing, left = sorted(wanted - saved), sorted(saved - wanted)
    if missing or left:
        what = f"{missing[0]} is missing" if missing else f"{left[0]} belongs to nothing"
        more = len(missing) + len(left) - 1
        raise GateError(
            f"{folder}: {what}{f' (and {more} more keys differ)' if more else ''}; the weights do "
            "not fit the config beside them."
        )


def _refuse_empty_tensors(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no mapping: it has keys() and no iterator)
                if 0 in tensors.get_slice(name).get_shape():
                    raise GateError(
                        f"{path}: the tensor {name} has no elements; nothing was saved."
                    )


def read_labels(folder: Path, config: Any) -> LabelMap:
    """The labels of the config; `label_mapping.json`, where it is, must say the same."""
    content = config.to_dict()
    try:
        names = label_names(content)
    except ValueError as error:
        raise GateError(f"{folder}: config.json: {error}; it was changed.") from None
    problem = unsupported_problem(content)
    if problem:
        raise GateError(f"{folder}: config.json: {problem}; nothing was answered.")
    mapping = folder / "label_mapping.json"
    if mapping.is_file():
        try:
            stored = LabelMap.from_json(read_json(mapping))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise GateError(f"{mapping}: is not a label mapping.") from None
        if stored.names != names:
            raise GateError(
                f"{mapping}: says {list(stored.names)} where config.json says {list(names)}; "
                "labels were swapped."
            )
    return LabelMap(names)


def _longest_input(tokenizer: Any, model: Any) -> int:
    """For a classifier that does not say: what tokenizer and positions allow, 512 at most."""
    positions = count_positions(model) or LONGEST_UNTOLD
    return int(min(tokenizer.model_max_length, positions, LONGEST_UNTOLD))
