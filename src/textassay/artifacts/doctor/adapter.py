"""An adapter: its config, its tensors, its head, and the base that it was trained on."""

from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoConfig

from textassay.artifacts.doctor.config import open_config
from textassay.artifacts.doctor.findings import Diagnosis, read_object, several
from textassay.artifacts.doctor.model import HEAD_ADVICE, load_shape, tell_mismatch
from textassay.artifacts.doctor.weights import COPY, Stored, examine_weights, is_zero
from textassay.artifacts.identify import ADAPTER_CONFIG
from textassay.artifacts.zero.checkpoint import PEFT_PREFIX
from textassay.errors import UsageError, first_line
from textassay.models.classifier import skeleton
from textassay.models.heads import LABEL_SCORING
from textassay.models.source import SETTINGS_KEY, Source, find_model, weight_files

MAGNITUDE = "lora_magnitude_vector"
ONE_TRAINING = "Put adapter, configs and base of one training together."
# What PEFT saves whole for a classifier when it is not told.
HEADS = ("classifier", "score")


def examine_adapter(
    folder: Path, base: str | None, hallmark: dict[str, Any] | None, diagnosis: Diagnosis
) -> Any:
    """Everything about the adapter in a folder; its config.json as transformers reads it, or None.

    Raises UsageError where `base`, which a user names, cannot be had.
    """
    adapter = read_object(folder / ADAPTER_CONFIG, diagnosis)
    config = open_config(folder, diagnosis) if (folder / "config.json").is_file() else None
    _refuse_model_beside(folder, diagnosis)
    stored = examine_weights(folder, "adapter_model", diagnosis)
    if adapter is None:
        return config
    diagnosis.facts["method"] = _method(adapter)
    source = _find_base(adapter, base, diagnosis)
    if source is not None and hallmark is not None:
        _compare_base(source, hallmark, diagnosis)
    if stored is None:
        return config
    before = len(diagnosis.findings)
    _examine_lora(adapter, stored, diagnosis)
    _examine_head(adapter, config, source, stored, diagnosis)
    if len(diagnosis.findings) == before:  # what is known already is not said again, less well
        _compare_with_peft(folder, config, source, stored, diagnosis)
    return config


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
    adapter: dict[str, Any], base: str | None, diagnosis: Diagnosis
) -> Source | None:  # fmt: skip
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
        source = find_model(str(named), None if base else adapter.get("revision"))
        weight_files(source.path)
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
        config = config or AutoConfig.from_pretrained(source.path, trust_remote_code=False)
        _, info = load_shape(source.path, config)
    except Exception:
        return False
    return not info["missing_keys"] and not info["mismatched_keys"]


class _Wanted(NamedTuple):
    """What PEFT would save, by the names that it saves by, and what it would take beside that.

    `open_keys` are the tensors that the base does not hold. `backbone` is how names in it begin.
    """

    shapes: dict[str, tuple[int, ...]]
    known: set[str]
    open_keys: set[str]
    backbone: str


def _compare_with_peft(
    folder: Path, config: Any, source: Source | None, stored: dict[str, Stored],
    diagnosis: Diagnosis,
) -> None:  # fmt: skip
    """Put the adapter on its model, both without weights, and compare names and shapes.

    What the base does not hold must be saved beside the adapter.
    """
    if config is None and source is None:
        return
    try:
        if config is None and source is not None:
            config = AutoConfig.from_pretrained(source.path, trust_remote_code=False)
            config.num_labels = _labels_of_head(stored) or config.num_labels
        wanted = _wanted(folder, config, source)
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
    _compare_names(wanted, stored, diagnosis)
    other = [name for name in sorted(wanted.shapes.keys() & stored.keys())
             if wanted.shapes[name] != stored[name].shape]  # fmt: skip
    for name in sorted(other, key=lambda name: len(wanted.shapes[name]) < 2)[:1]:
        labels = len(config.id2label)
        tell_mismatch(name, stored[name].shape, wanted.shapes[name], labels, stored, diagnosis)


def _compare_names(wanted: _Wanted, stored: dict[str, Stored], diagnosis: Diagnosis) -> None:
    weights = next(iter(stored.values())).file.name
    missing = sorted((wanted.shapes.keys() | wanted.open_keys) - stored.keys())
    head = [name for name in missing if not name.startswith(wanted.backbone)]
    if head:
        diagnosis.wrong(
            f"{weights}: the classification head is missing ({several(head)}).", HEAD_ADVICE
        )
    elif missing:
        diagnosis.wrong(
            f"{weights}: the tensor {several(missing)} is missing, so it would start at random.",
            ONE_TRAINING,
        )
    left = sorted(stored.keys() - wanted.shapes.keys() - wanted.known)
    if left:
        diagnosis.wrong(
            f"{weights}: the tensor {several(left)} belongs to nothing in the base's model.",
            ONE_TRAINING,
        )


def _wanted(folder: Path, config: Any, source: Source | None) -> _Wanted:
    """Raises NotImplementedError where it cannot be known without weights."""
    from textassay.models.bottleneck import register
    from textassay.models.peft_library import peft

    register()
    method = peft.PeftConfig.from_pretrained(folder)
    if method.is_prompt_learning or getattr(method, "layer_replication", None):
        raise NotImplementedError
    method.inference_mode = False
    # How it would start does not matter, and some ways compute with the weights.
    if getattr(method, "init_lora_weights", None):
        method.init_lora_weights = True
    model, open_keys = _model_of(config, source)
    backbone = f"{PEFT_PREFIX}{model.base_model_prefix}."
    wrapped = peft.get_peft_model(model, method, low_cpu_mem_usage=True)
    saved = peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    shapes = {name: tuple(tensor.shape) for name, tensor in saved.items()}
    return _Wanted(shapes, set(wrapped.state_dict()), open_keys, backbone)


def _model_of(config: Any, source: Source | None) -> tuple[Any, set[str]]:
    """The adapter's model without weights, and the tensors that its base does not hold."""
    if source is None:
        if getattr(config, SETTINGS_KEY, None) is None:
            setattr(config, SETTINGS_KEY, {})
        return skeleton(config), set()
    model, info = load_shape(source.path, config)
    other = (key for key, *_ in info["mismatched_keys"])
    return model, {PEFT_PREFIX + key for key in (*info["missing_keys"], *other)}


def _labels_of_head(stored: dict[str, Stored]) -> int | None:
    """How many rows the last matrix has that is no part of the adapter proper."""
    rows = [tensor.shape[0] for name, tensor in stored.items() if ".lora_" not in name
            and len(tensor.shape) == 2 and set(name.split(".")).intersection(HEADS)]  # fmt: skip
    return min(rows, default=None)
