"""A ZeRO checkpoint: are all ranks there, and do they hold numbers, a head, and their model?"""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from textassay.artifacts.doctor.config import examine_labels, open_config
from textassay.artifacts.doctor.findings import Diagnosis, read_object
from textassay.artifacts.doctor.model import alone
from textassay.artifacts.doctor.weights import read_header
from textassay.artifacts.fitting import FIT_ADVICE, HEAD_ADVICE, several
from textassay.artifacts.identify import ADAPTER_CONFIG, Identity
from textassay.artifacts.zero.checkpoint import ZeroCheckpoint, open_checkpoint
from textassay.artifacts.zero.files import places_beside
from textassay.errors import DataError, UsageError, first_line
from textassay.models.classifier import skeleton
from textassay.models.proportion import refuse_larger
from textassay.models.source import SETTINGS_KEY

COPY = "Copy the whole directory again from where it was written."


def examine_zero(identity: Identity, base: str | None, diagnosis: Diagnosis) -> None:
    """Everything about a ZeRO checkpoint; `base` names a directory with its config."""
    try:
        checkpoint = open_checkpoint(identity.folder)
    except (DataError, UsageError) as error:
        diagnosis.wrong(str(error), "As it is, nothing can be consolidated from it.")
        return
    diagnosis.facts |= {
        "zero_stage": checkpoint.stage, "world_size": checkpoint.world_size,
        "parameters": checkpoint.numel(), "dtype": "float32",
    }  # fmt: skip
    empty = [placed.name for placed in checkpoint.trained if placed.numel == 0]
    if empty:
        diagnosis.wrong(
            f"{checkpoint.folder}: the parameter {several(empty)} has no elements.",
            "Train again; what it was is not in the checkpoint.",
        )
        return
    _examine_tensors(checkpoint, diagnosis)
    _examine_beside(checkpoint.folder.parent, diagnosis)
    config = _config_beside(checkpoint, base, diagnosis)
    if config is not None and config.name == ADAPTER_CONFIG:
        _examine_adapter(config, checkpoint, diagnosis)
    elif config is not None:
        _compare_with_config(config.parent, checkpoint, diagnosis)


def _examine_tensors(checkpoint: ZeroCheckpoint, diagnosis: Diagnosis) -> None:
    odd, zero, second = [], 0, 0
    for name, tensor in checkpoint.tensors():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            odd.append(name)
        if ".lora_B." in name:
            second += 1
            zero += not bool(tensor.any())
    if odd:
        diagnosis.wrong(
            f"{checkpoint.folder}: the parameter {several(odd)} holds NaN or infinity.",
            "The training broke; train again with a lower learning rate, or without fp16.",
        )
    if second and zero == second:
        diagnosis.wrong(
            f"{checkpoint.folder}: every lora_B is zero; the adapter was never trained.",
            "Train again, and see that the loss falls.",
        )


def _examine_beside(folder: Path, diagnosis: Diagnosis) -> None:
    """What the Trainer saved beside the states may be empty where the states are whole."""
    for file in sorted(folder.glob("*.safetensors")):
        try:
            empty = [name for name, tensor in read_header(file).items() if 0 in tensor.shape]
        except SafetensorError as error:
            diagnosis.wrong(f"{file.name}: cannot be read ({first_line(error)}).", COPY)
            continue
        if empty:
            diagnosis.wrong(
                f"{file.name}: the tensor {several(empty)} has no elements; it was saved without "
                "gathering what ZeRO-3 had cut.",
                "Delete the file; the weights are in the states: textassay consolidate.",
            )


def _config_beside(
    checkpoint: ZeroCheckpoint, base: str | None, diagnosis: Diagnosis
) -> Path | None:
    """The config where a consolidation looks for it; a note where there is none."""
    step = checkpoint.folder.parent
    wanted = ADAPTER_CONFIG if checkpoint.holds_adapter else "config.json"
    places = [*places_beside(checkpoint.folder), *([Path(base)] if base else [])]
    found = next((place / wanted for place in places if (place / wanted).is_file()), None)
    if found is None:
        diagnosis.note(
            f"{step}: has no {wanted}, in it or in the directory above, so it is not known what "
            "the weights mean.",
            "Name a directory that has it with --base_model_path.",
        )
    return found


def _examine_adapter(config: Path, checkpoint: ZeroCheckpoint, diagnosis: Diagnosis) -> None:
    adapter = read_object(config, diagnosis)
    if adapter is None:
        return
    diagnosis.facts["base"] = adapter.get("base_model_name_or_path")
    heads = [placed.name for placed in checkpoint.trained if ".modules_to_save." in placed.name]
    if adapter.get("task_type") == "SEQ_CLS" and not heads:
        diagnosis.wrong(
            f"{checkpoint.folder}: the classification head is missing (no modules_to_save).",
            HEAD_ADVICE,
        )


def _compare_with_config(folder: Path, checkpoint: ZeroCheckpoint, diagnosis: Diagnosis) -> None:
    with alone():
        config = open_config(folder, diagnosis)
    if config is None:
        return
    examine_labels(folder, config, None, diagnosis)
    if getattr(config, SETTINGS_KEY, None) is None:
        setattr(config, SETTINGS_KEY, {})
    try:
        shapes = [placed.shape for placed in checkpoint.trained] + [*checkpoint.frozen.values()]
        with refuse_larger(f"{folder}/config.json", shapes):
            state = skeleton(config).state_dict()
    except Exception as error:
        diagnosis.wrong(
            f"{folder}/config.json: no classifier can be built by it ({first_line(error)[:200]}).",
            FIT_ADVICE,
        )
        return
    wanted = {name: tuple(tensor.shape) for name, tensor in state.items()}
    held: dict[str, Any] = {placed.name: placed.shape for placed in checkpoint.trained}
    held |= checkpoint.frozen
    elsewhere = {*checkpoint.shared, *(tensor.name for tensor in checkpoint.others)}
    missing = sorted(wanted.keys() - held.keys() - elsewhere)
    other = [name for name in sorted(wanted.keys() & held.keys()) if wanted[name] != held[name]]
    left = sorted(held.keys() - wanted.keys())
    place = checkpoint.folder
    if missing:
        diagnosis.wrong(f"{place}: the parameter {several(missing)} is missing.", FIT_ADVICE)
    if left:
        diagnosis.wrong(
            f"{place}: the parameter {several(left)} belongs to nothing in config.json's model.",
            FIT_ADVICE,
        )
    if other:
        diagnosis.wrong(
            f"{place}: {several(other)} has the shape {list(held[other[0]])}, where config.json "
            f"wants {list(wanted[other[0]])}.",
            FIT_ADVICE,
        )
