"""Adapters: the base and the config that belong to one, and loading it with nothing made up."""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from textassay.artifacts.fitting import AdapterKeys, StoredTensors, adapter_keys, adapter_misfits
from textassay.artifacts.hallmark import read_hallmark, refuse_other_base
from textassay.artifacts.identify import ADAPTER_CONFIG
from textassay.artifacts.weights import adapter_file
from textassay.errors import GateError, TextassayError, UsageError, first_line
from textassay.files import JsonError, read_json
from textassay.links import refuse_links
from textassay.models.classifier import (
    count_vocabulary,
    has_vocabulary,
    load_config,
    load_tokenizer,
    load_weights,
    skeleton,
)
from textassay.models.heads import output_layer
from textassay.models.pickled import BROKEN, why_unread
from textassay.models.proportion import refuse_larger, stored_shapes
from textassay.models.quantization import (
    STORED_QUANTIZATION,
    dequantized,
    is_quantized,
    quantization_beside,
)
from textassay.models.source import SETTINGS_KEY, Source, find_model, shapes_in

# A label count that no other layer of a model has as its width.
ODD_COUNT = 1013

Load = Callable[[Any], tuple[Any, Mapping[str, Any]]]


@dataclass(frozen=True)
class OpenedAdapter:
    """What belongs together: the adapter's own config, its base, and the classifier's config.

    `knows_labels` is False where the head is the adapter's own, and no config.json lies beside it.
    """

    folder: Path
    adapter: Mapping[str, Any]
    source: Source
    config: Any
    stored: StoredTensors
    knows_labels: bool

    def load_tokenizer(self) -> Any:
        """The tokenizer beside the adapter; where there is none, its base's."""
        return load_tokenizer(str(self.folder if has_vocabulary(self.folder) else self.source.path))


def open_adapter(folder: Path, base: str | None) -> OpenedAdapter:
    """Find the base of an adapter and the config of its classifier; no weights are read.

    GateError where the adapter does not say what its base is, UsageError where that is nowhere.
    """
    refuse_links(folder)
    adapter = read_adapter_config(folder)
    source = find_base(folder, adapter, base)
    stored = stored_tensors(adapter_file(folder))
    has_config = (folder / "config.json").is_file()
    if not has_config and (folder / "label_mapping.json").is_file():
        raise GateError(
            f"{folder}: is an adapter without the config.json of its classifier, which was saved "
            "with it (label_mapping.json is there); copy it from where the adapter was made."
        )
    config = read_config(folder if has_config else source.path)
    held = [*stored_shapes(source.path), *stored.shapes.values()]
    with refuse_larger(f"{folder}: config.json", held):
        knows_labels = has_config or not _count_labels_of_head(config, stored)
    quantization_beside(config, read_json(source.path / "config.json"))
    return OpenedAdapter(folder, adapter, source, config, stored, knows_labels)


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The adapter_config.json of a folder. GateError where it is no object."""
    try:
        content = read_json(folder / ADAPTER_CONFIG)
    except (OSError, JsonError) as error:
        reason = getattr(error, "reason", error)
        raise GateError(f"{folder}: {ADAPTER_CONFIG} cannot be read ({reason}).") from None
    if not isinstance(content, dict):
        raise GateError(f"{folder}: {ADAPTER_CONFIG} is no object with settings.")
    return content


def read_config(folder: Path) -> Any:
    """The model's config in an artifact. GateError where it is not one.

    No code of the directory's own is run.
    """
    try:
        config = load_config(folder)
        dict(config.label2id or {})  # not checked when it is read
    except TextassayError:
        raise
    except Exception as error:  # each architecture checks its config in its own way
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:240]
        raise GateError(
            f"{folder}: config.json: describes no model that transformers knows ({reason})."
        ) from None
    for name in ("id2label", SETTINGS_KEY):
        if not isinstance(getattr(config, name, None) or {}, dict):
            raise GateError(f"{folder}: config.json: {name} is no object; it was changed.")
    return config


def find_base(folder: Path, adapter: Mapping[str, Any], base: str | None) -> Source:
    """The base that is named by the user, else by the adapter."""
    named = base or adapter.get("base_model_name_or_path")
    if not named:
        raise GateError(f"{folder}: does not say what its base is; name it.")
    revision = None if base else adapter.get("revision")
    for name, value in (("base_model_name_or_path", named), ("revision", revision)):
        if not isinstance(value, str | None):
            raise GateError(f"{folder}: {ADAPTER_CONFIG}: {name} is {value!r} and no text.")
    try:
        return find_model(named, revision)
    except UsageError:
        stamped = (read_hallmark(folder) or {}).get("base", {}).get("weights")
        if not revision or not stamped:
            raise
        return _find_by_hash(named, stamped) or find_model(named, revision)


def _find_by_hash(name: str, stamped: str) -> Source | None:
    """A base on this machine of another revision, or of an unknown one, with the same weights."""
    try:
        found = find_model(name)
    except UsageError:
        return None
    return found if found.weights_hash() == stamped else None


def stored_tensors(file: Path) -> StoredTensors:
    """Names and shapes in a safetensors file, or in a pickle, of which nothing is run.

    GateError where it cannot be read, or holds more than tensors.
    """
    try:
        shapes = shapes_in(file)
    except FileNotFoundError:
        raise GateError(f"{file}: is missing; there are no weights.") from None
    except SafetensorError as error:
        raise GateError(
            f"{file}: cannot be read; it is cut off, or no safetensors file "
            f"({first_line(error)[:160]})."
        ) from None
    except BROKEN as error:
        raise GateError(f"{file}: {why_unread(error)}.") from None
    return StoredTensors(shapes, dict.fromkeys(shapes, file.name))


def _count_labels_of_head(config: Any, stored: StoredTensors) -> int:
    """How many labels the head that was saved with an adapter has; 0 where none was saved.

    The config, which is the base's, is changed to have as many; their names are lost.
    """
    counted = copy.deepcopy(config)
    counted.num_labels = ODD_COUNT
    if getattr(counted, SETTINGS_KEY, None) is None:
        setattr(counted, SETTINGS_KEY, {})
    name, _ = output_layer(skeleton(counted))
    shape = stored.of_module(name)
    if shape is None:
        return 0
    config.num_labels = shape[0]
    return shape[0]


def load_base(opened: OpenedAdapter, load: Load) -> tuple[Any, Mapping[str, Any]]:
    """The adapter's model without the adapter, and the report on it, by `load(config)`.

    Where a training resized the vocabulary, the embeddings have the rows that were saved: the
    adapter's, else the base's. The config is changed to say so.
    """
    model, info = load(opened.config)
    embeddings = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is embeddings)
    saved = opened.stored.of_module(name)
    held = [found for key, found, _ in info["mismatched_keys"] if key == f"{name}.weight"]
    before = count_vocabulary(model)
    rows = next((shape[0] for shape in (saved, *held) if shape), before)
    if rows == before:
        return model, info
    opened.config.get_text_config().vocab_size = rows
    return load(opened.config)


def load_adapter(opened: OpenedAdapter, tokenizer: Any, dequantize: bool = False) -> Any:
    """A PeftModel with its base, every key in its place.

    `dequantize` turns a base in 4 bits back into numbers before the adapter is put on it.
    """
    from textassay.models.bottleneck import register
    from textassay.models.peft_library import peft

    register()
    _refuse_changed_base(opened)
    path, folder = str(opened.source.path), opened.folder
    model, info = load_base(opened, lambda config: load_weights(path, config, tokenizer))
    if dequantize and is_quantized(model):
        model = dequantized(model, skeleton(_with_settings(opened.config)))
    try:
        with refuse_larger(f"{folder}: {ADAPTER_CONFIG}", [*opened.stored.shapes.values()]):
            wrapped = peft.PeftModel.from_pretrained(model, folder)
    except KeyError as error:
        raise GateError(f"{folder}: the adapter has no {error.args[0]}; it is not whole.") from None
    except TextassayError:
        raise
    except Exception as error:  # PEFT's forty methods have errors of their own
        first = first_line(error)[:300]
        raise GateError(f"{folder}: does not fit its base {opened.source.name}: {first}") from None
    refuse_misfits(opened, adapter_keys(wrapped, info))
    return wrapped


def _refuse_changed_base(opened: OpenedAdapter) -> None:
    """GateError, before any weights are read, where the base is not the stamped one.

    Nor may an adapter lie in it, which transformers would put on the base unasked.
    """
    hallmark = read_hallmark(opened.folder)
    if hallmark is not None:
        refuse_other_base(opened.folder, opened.source, hallmark)
    if (opened.source.path / ADAPTER_CONFIG).is_file():
        raise GateError(
            f"{opened.folder}: its base {opened.source.name} ({opened.source.origin}) has an "
            f"{ADAPTER_CONFIG} of its own, so it is another model than the one that the adapter "
            "lies on; take that file out, or name the right base."
        )


def refuse_misfits(opened: OpenedAdapter, keys: AdapterKeys) -> None:
    """GateError where a tensor is in neither adapter nor base, or belongs to nothing."""
    misfits = adapter_misfits(keys, opened.config.num_labels, opened.stored)
    if misfits:
        raise GateError(f"{opened.folder}: {misfits[0]}")


def adapter_notes(opened: OpenedAdapter) -> list[str]:
    """What someone should know of an adapter that answers, as sentences."""
    notes = []
    ignored = ignored_settings(opened.adapter)
    if ignored:
        notes.append(
            f"{ADAPTER_CONFIG}: this PEFT does not know {', '.join(ignored)} and ignores "
            f"{'it' if len(ignored) == 1 else 'them'} (written by PEFT "
            f"{opened.adapter.get('peft_version', 'of an unknown version')}); the adapter may "
            "compute something else than where it was trained."
        )
    if not opened.knows_labels:
        names = ", ".join(str(name) for name in opened.config.id2label.values())
        notes.append(
            f"no config.json lies beside the adapter, so its labels are called as the base's "
            f"config has them: {names}. Put the config.json of the training there."
        )
    return notes


def ignored_settings(adapter: Mapping[str, Any]) -> list[str]:
    """Settings of an adapter that this PEFT does not know, as `name=value`; not those that are off.

    A newer PEFT has written them; what they change about the logits is not known.
    """
    from textassay.models.bottleneck import register
    from textassay.models.peft_library import peft

    register()
    config_class = peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING.get(adapter.get("peft_type"))
    if config_class is None:
        return []
    known = {field.name for field in dataclasses.fields(config_class)}
    return [f"{name}={value!r}" for name, value in adapter.items() if name not in known and value]


def _with_settings(config: Any) -> Any:
    """The config with settings of ours, empty where it has none, and without a quantisation."""
    plain = copy.deepcopy(config)
    if getattr(plain, SETTINGS_KEY, None) is None:
        setattr(plain, SETTINGS_KEY, {})
    if hasattr(plain, STORED_QUANTIZATION):
        delattr(plain, STORED_QUANTIZATION)
    return plain
