"""An adapter: its config, its tensors, its head, and the base that it was trained on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from textassay.artifacts.adapters import (
    OpenedAdapter,
    adapter_notes,
    find_base,
    load_base,
    open_adapter,
)
from textassay.artifacts.doctor.config import open_config
from textassay.artifacts.doctor.findings import Diagnosis, read_object
from textassay.artifacts.doctor.model import load_shape
from textassay.artifacts.doctor.weights import (
    COPY,
    Stored,
    examine_weights,
    is_zero,
    names_and_shapes,
)
from textassay.artifacts.fitting import (
    HEAD_ADVICE,
    ONE_TRAINING,
    AdapterKeys,
    adapter_keys,
    adapter_misfits,
)
from textassay.artifacts.identify import ADAPTER_CONFIG
from textassay.artifacts.zero.checkpoint import PEFT_PREFIX
from textassay.errors import GateError, UsageError, first_line
from textassay.models.classifier import load_config
from textassay.models.heads import LABEL_SCORING
from textassay.models.proportion import refuse_larger
from textassay.models.quantization import STORED_QUANTIZATION
from textassay.models.source import SETTINGS_KEY, Source, weight_files

MAGNITUDE = "lora_magnitude_vector"
# What PEFT saves whole for a classifier when it is not told.
HEADS = ("classifier", "score")


def examine_adapter(
    folder: Path, base: str | None, hallmark: dict[str, Any] | None, diagnosis: Diagnosis
) -> Any:
    """Everything about the adapter in a folder; the config of its classifier, or None.

    Raises UsageError where `base`, which a user names, cannot be had.
    """
    adapter = read_object(folder / ADAPTER_CONFIG, diagnosis)
    config = open_config(folder, diagnosis) if (folder / "config.json").is_file() else None
    _refuse_model_beside(folder, diagnosis)
    stored = examine_weights(folder, "adapter_model", diagnosis)
    if adapter is None:
        return config
    diagnosis.facts["method"] = _method(adapter)
    source = _find_base(folder, adapter, base, diagnosis)
    if source is not None and hallmark is not None:
        _compare_base(source, hallmark, diagnosis)
    if stored is None or diagnosis.count_wrong():
        return config
    opened = _open(folder, source, base, diagnosis)
    _examine_lora(adapter, stored, diagnosis)
    _examine_head(adapter, config, source, stored, diagnosis)
    if opened is None:
        return config
    if not diagnosis.count_wrong():  # what is known already is not said again, less well
        _compare_with_peft(opened, stored, diagnosis)
    for sentence in adapter_notes(opened):
        diagnosis.note(sentence, "Compare its figures with those of its training.")
    return opened.config


def _open(
    folder: Path, source: Source | None, base: str | None, diagnosis: Diagnosis
) -> OpenedAdapter | None:
    """The adapter with its base and config; None where the base is not on this machine."""
    if source is None:
        return None
    try:
        return open_adapter(folder, base)
    except GateError as error:
        diagnosis.wrong(str(error), ONE_TRAINING)
    return None


def _method(adapter: dict[str, Any]) -> str:
    name = str(adapter.get("peft_type", "unknown")).lower()
    rank = f", r {adapter['r']}" if "r" in adapter else ""
    kinds = [title for key, title in (("use_dora", "DoRA"), ("use_rslora", "rsLoRA"))
             if adapter.get(key)]  # fmt: skip
    return ", ".join([f"{name}{rank}", *kinds])


def _refuse_model_beside(folder: Path, diagnosis: Diagnosis) -> None:
    try:
        beside = weight_files(folder)
    except UsageError:
        return
    diagnosis.wrong(
        f"{beside[0].name}: is the weights of a whole model beside an adapter; transformers loads "
        "the model and puts the adapter on it, a second time if it was merged.",
        "Move the adapter's files (adapter_*) into a directory of their own.",
    )


def _find_base(
    folder: Path, adapter: dict[str, Any], base: str | None, diagnosis: Diagnosis
) -> Source | None:
    """The adapter's base, looked for on this machine alone."""
    named = base or adapter.get("base_model_name_or_path")
    if not named:
        diagnosis.wrong(
            f"{ADAPTER_CONFIG}: base_model_name_or_path names no base.",
            "Write into it what it was trained on, or name that with --base_model_path.",
        )
        return None
    diagnosis.facts["base"] = str(named)
    try:
        source = find_base(folder, adapter, base)
        weight_files(source.path)
    except GateError as error:
        diagnosis.wrong(str(error), ONE_TRAINING)
        return None
    except UsageError:
        if base:
            raise
        diagnosis.note(
            f"{ADAPTER_CONFIG}: the base {named} is not on this machine, so it could not be "
            "checked whether the adapter fits it.",
            "Name the directory that it lies in with --base_model_path.",
        )
        return None
    return source


def _compare_base(source: Source, hallmark: dict[str, Any], diagnosis: Diagnosis) -> None:
    stamped = hallmark["base"].get("weights")
    found = source.weights_hash()
    if stamped and found != stamped:
        diagnosis.wrong(
            f"{source.path}: the base has weights {found[:19]}…, where the adapter was trained on "
            f"{str(stamped)[:19]}… (base.weights in hallmark.json).",
            "Name the base that it was trained on with --base_model_path.",
        )


def _examine_lora(
    adapter: dict[str, Any], stored: dict[str, Stored], diagnosis: Diagnosis
) -> None:  # fmt: skip
    """Ranks, magnitudes and the traces of a training, by the names of tensors alone."""
    if adapter.get("peft_type") != "LORA":
        return
    second = {name: t for name, t in stored.items() if ".lora_B." in name or "embedding_B" in name}
    if not second:
        diagnosis.wrong("adapter_model: holds no lora_B tensor, so no LoRA.", COPY)
        return
    files = {stored[name].file for name in second}
    safe = all(file.suffix == ".safetensors" for file in files)
    if safe and all(is_zero(tensor, name) for name, tensor in second.items()):
        diagnosis.wrong(
            f"{min(files).name}: every lora_B is zero, {min(second)} among them; the adapter was "
            "never trained, or saved from the wrong copy, and predicts as its base.",
            "Train again, and see that the loss falls.",
        )
    with_magnitude = {name.partition(f".{MAGNITUDE}")[0] for name in stored if MAGNITUDE in name}
    lora = {name.partition(".lora_B")[0] for name in second if ".lora_B." in name}
    missing = sorted(lora - with_magnitude)
    if adapter.get("use_dora") and missing:
        diagnosis.wrong(
            f"{min(files).name}: {missing[0]}.{MAGNITUDE} is missing"
            f"{f' (and {len(missing) - 1} more)' if len(missing) > 1 else ''}, though use_dora in "
            f"{ADAPTER_CONFIG} is true.",
            "Save the adapter through PEFT again; without magnitudes it computes something else.",
        )
    _compare_ranks(adapter, stored, diagnosis)


def _compare_ranks(
    adapter: dict[str, Any], stored: dict[str, Stored], diagnosis: Diagnosis
) -> None:  # fmt: skip
    from textassay.models.peft_library import peft

    pattern = adapter.get("rank_pattern")
    ranks = pattern if isinstance(pattern, dict) else {}
    for name, tensor in stored.items():
        module, inside, _ = name.partition(".lora_A.")
        if not inside:
            continue
        rank = ranks.get(peft.utils.other.get_pattern_key(ranks, module), adapter.get("r"))
        if tensor.shape[:1] != (rank,):
            diagnosis.wrong(
                f"{tensor.file.name}: {name} has rank {tensor.shape[0] if tensor.shape else 0}, "
                f"where r in {ADAPTER_CONFIG} is {rank}.",
                ONE_TRAINING,
            )
            return


def _examine_head(
    adapter: dict[str, Any], config: Any, source: Source | None, stored: dict[str, Stored],
    diagnosis: Diagnosis,
) -> None:  # fmt: skip
    """A head must be saved beside the adapter, unless the labels' tokens or the base give it."""
    settings = getattr(config, SETTINGS_KEY, None) or {}
    if settings.get("head") == LABEL_SCORING:
        return
    named = adapter.get("modules_to_save")
    wanted = {*(map(str, named) if isinstance(named, list) else ()), *HEADS}
    whole = (name.removeprefix(PEFT_PREFIX) for name in stored if ".lora_" not in name)
    if any(f".{module}." in f".{name}" for name in whole for module in wanted):
        return
    if source is not None and _is_whole_classifier(source, config):
        return
    where = f"modules_to_save in {ADAPTER_CONFIG} is {named}" if named else "none is named to save"
    diagnosis.wrong(
        f"{next(iter(stored.values())).file.name}: the classification head is missing ({where}).",
        HEAD_ADVICE,
    )


def _is_whole_classifier(source: Source, config: Any) -> bool:
    """Whether the base is a classifier already, with a head that fits the adapter's labels."""
    try:
        config = config or load_config(source.path)
        _, info = load_shape(source.path, config)
    except Exception:
        return False
    return not info["missing_keys"] and not info["mismatched_keys"]


def _compare_with_peft(
    opened: OpenedAdapter, stored: dict[str, Stored], diagnosis: Diagnosis
) -> None:
    """Put the adapter on its model, both without weights, and compare names and shapes.

    What the base does not hold must be saved beside the adapter.
    """
    if getattr(opened.config, STORED_QUANTIZATION, None):  # the base's names are packed weights'
        return
    opened = replace(opened, stored=names_and_shapes(stored))
    try:
        keys = _keys_on_meta(opened)
    except NotImplementedError:  # methods that compute with the weights before they are read
        return
    # PEFT's forty methods and transformers' models have errors of their own.
    except Exception as error:
        diagnosis.wrong(
            f"{ADAPTER_CONFIG}: the adapter cannot be put on its model "
            f"({type(error).__name__}: {first_line(error)[:200]}).",
            ONE_TRAINING,
        )
        return
    diagnosis.add_misfits(adapter_misfits(keys, len(opened.config.id2label), opened.stored))


def _keys_on_meta(opened: OpenedAdapter) -> AdapterKeys:
    """Raises NotImplementedError where it cannot be known without weights."""
    from textassay.models.bottleneck import register
    from textassay.models.peft_library import peft

    register()
    method = peft.PeftConfig.from_pretrained(opened.folder)
    if method.is_prompt_learning or getattr(method, "layer_replication", None):
        raise NotImplementedError
    method.inference_mode = False
    # How it would start does not matter, and some ways compute with the weights.
    if getattr(method, "init_lora_weights", None):
        method.init_lora_weights = True
    model, info = load_base(opened, lambda config: load_shape(opened.source.path, config))
    shapes = [*opened.stored.shapes.values()]
    with refuse_larger(ADAPTER_CONFIG, shapes):
        wrapped = peft.get_peft_model(model, method, low_cpu_mem_usage=True)
    return adapter_keys(wrapped, info)
