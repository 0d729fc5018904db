"""Look at a directory and say what it is, what is wrong with it, and what to do.

Headers and JSON are read first, tensors one at a time where their values matter. No pickle is run,
and the network is not touched. Where nothing wrong was found, the artifact is loaded as it would be
for a prediction.
"""

from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from textassay.artifacts.doctor.adapter import examine_adapter
from textassay.artifacts.doctor.config import (
    examine_labels,
    examine_pad_token,
    open_config,
    open_tokenizer,
)
from textassay.artifacts.doctor.findings import Diagnosis, read_object
from textassay.artifacts.doctor.model import alone, compare_with_config
from textassay.artifacts.doctor.weights import COPY, examine_weights
from textassay.artifacts.doctor.zero import examine_zero
from textassay.artifacts.hallmark import FILE, check_files, read_hallmark
from textassay.artifacts.identify import (
    ADAPTER,
    ADAPTER_CONFIG,
    BASE_MODEL,
    MODEL,
    RUN,
    UNKNOWN,
    ZERO,
    Identity,
    identify,
)
from textassay.artifacts.kinds import load_artifact
from textassay.artifacts.onnx_files import ONNX, ONNX_INT8
from textassay.artifacts.onnx_model import OnnxModel
from textassay.artifacts.zero.consolidate import refuse_links_around
from textassay.config.runs import FINISHED, refuse_links_in
from textassay.errors import GateError, UsageError
from textassay.files import read_json
from textassay.links import refuse_links
from textassay.models.classifier import has_vocabulary

# Parameters that are read as a whole to see whether an artifact loads, 4 GB in fp32.
LOADED_UP_TO = 1_000_000_000


def examine(path: Path, base: str | None = None) -> Diagnosis:
    """Facts and findings about a directory. `base` names an adapter's base, or a config for ZeRO.

    Raises UsageError where there is no such directory, or no such base.
    """
    identity = identify(path)
    diagnosis = Diagnosis(path, {"kind": identity.kind})
    if not _has_strange_entries(path, identity, diagnosis):
        with alone():
            if identity.kind == RUN:
                identity = _examine_run(path, identity, diagnosis)
            _examine_kind(identity, base, diagnosis)
    diagnosis.facts["bytes"] = sum(
        file.stat().st_size for file in path.rglob("*") if file.is_file()
    )
    return diagnosis


def _has_strange_entries(path: Path, identity: Identity, diagnosis: Diagnosis) -> bool:
    """Whether a link leads out of what is examined; then nothing in it is read."""
    try:
        if identity.kind == RUN:
            refuse_links_in(path)
        if identity.kind == ZERO:
            refuse_links_around(identity.folder)
        elif identity.folder.is_dir():
            refuse_links(identity.folder)
    except GateError as error:
        diagnosis.wrong(str(error), "Nothing in it was read, and every other command refuses it.")
        return True
    return False


def refuse_wrong(diagnosis: Diagnosis) -> None:
    """GateError where anything is wrong."""
    wrong = diagnosis.count_wrong()
    if wrong:
        count = "one thing is" if wrong == 1 else f"{wrong} things are"
        raise GateError(f"{diagnosis.path}: {count} wrong; predictions cannot be trusted.")


def _examine_run(path: Path, identity: Identity, diagnosis: Diagnosis) -> Identity:
    """What lies in a run's `model/`; the run itself where there is nothing yet."""
    finished = (path / FINISHED).is_file()
    if finished:
        read_object(path / FINISHED, diagnosis)
    if not identity.folder.is_dir():
        tell = diagnosis.wrong if finished else diagnosis.note
        tell(
            f"{path}: has no model/, so there is nothing that could predict"
            f"{', though finished.json says that it ended' if finished else ' yet'}.",
            "Call the launcher again with the same job; it goes on from the last checkpoint.",
        )
        return identity
    if not finished:
        diagnosis.note(
            f"{path}: has no {FINISHED}, so the run has not come to its end.",
            "Call the launcher again with the same job; it goes on from the last checkpoint.",
        )
    inside = identify(identity.folder)
    diagnosis.facts["artifact"] = inside.kind
    return inside


def _examine_kind(identity: Identity, base: str | None, diagnosis: Diagnosis) -> None:
    folder = identity.folder
    if identity.kind == ZERO:
        examine_zero(identity, base, diagnosis)
    elif identity.kind == UNKNOWN:
        _tell_unknown(folder, diagnosis)
    elif identity.kind == BASE_MODEL:
        _examine_base_model(folder, diagnosis)
    elif identity.kind in (ADAPTER, MODEL, ONNX, ONNX_INT8):
        _examine_artifact(identity, base, diagnosis)


def _examine_artifact(identity: Identity, base: str | None, diagnosis: Diagnosis) -> None:
    folder = identity.folder
    hallmark = _examine_hallmark(folder, diagnosis)
    if identity.kind == ADAPTER:
        config = examine_adapter(folder, base, hallmark, diagnosis)
    else:
        config = _examine_model(identity, diagnosis)
    if hallmark is not None:
        diagnosis.facts.setdefault("base", hallmark["base"].get("name"))
    if config is None:
        return
    examine_labels(folder, config, hallmark, diagnosis)
    if identity.kind in (ONNX, ONNX_INT8):  # opening a graph has opened its tokenizer
        return
    # What PEFT saves has no tokenizer: the base's is used.
    if identity.kind == ADAPTER and not has_vocabulary(folder):
        _load_as_predict_does(folder, base, diagnosis)
        return
    tokenizer = open_tokenizer(folder, diagnosis)
    if tokenizer is not None:
        examine_pad_token(config, tokenizer, diagnosis)
        _load_as_predict_does(folder, base, diagnosis)


def _load_as_predict_does(folder: Path, base: str | None, diagnosis: Diagnosis) -> None:
    """The last word: an artifact that the loader refuses predicts nothing, whatever looked right.

    Only where nothing wrong is known, and the weights are small enough to be read as a whole.
    """
    if diagnosis.count_wrong() or diagnosis.facts.get("parameters", 0) > LOADED_UP_TO:
        return
    try:
        load_artifact(folder, base, tell=False)
    except GateError as error:
        diagnosis.wrong(str(error).removeprefix(f"{folder}: "), "As it is, predict refuses it.")
    except UsageError as error:  # its base is elsewhere, or a library is not installed
        diagnosis.note(str(error), "So it was not tried whether it can be loaded.")


def _examine_model(identity: Identity, diagnosis: Diagnosis) -> Any:
    """Config and weights of a model, by themselves and together."""
    folder = identity.folder
    if identity.kind in (ONNX, ONNX_INT8):
        return _examine_onnx(folder, diagnosis)
    config = open_config(folder, diagnosis)
    stored = examine_weights(folder, "model", diagnosis)
    if config is not None and stored:
        compare_with_config(folder, config, stored, diagnosis)
    return config


def _examine_hallmark(folder: Path, diagnosis: Diagnosis) -> dict[str, Any] | None:
    """The hallmark where there is one that can be read, and whether the files are the stamped."""
    diagnosis.facts["hallmark"] = (folder / FILE).is_file()
    try:
        hallmark = read_hallmark(folder)
        if hallmark is not None:
            check_files(folder, hallmark)
    except GateError as error:
        diagnosis.wrong(
            str(error), "Restore what was stamped, or make the artifact again; do not ship this."
        )
        return None
    return hallmark


def _examine_base_model(folder: Path, diagnosis: Diagnosis) -> None:
    open_config(folder, diagnosis)
    examine_weights(folder, "model", diagnosis)
    open_tokenizer(folder, diagnosis)
    diagnosis.note(
        "config.json: is of a base model without a classification head, which predicts no labels.",
        "Name it with --model_name_or_path of textassay train-lora or textassay train-full.",
    )


def _examine_onnx(folder: Path, diagnosis: Diagnosis) -> Any:
    """Whether ONNX Runtime opens it, and what it says fits what lies beside it; its config.

    The config may be of a model that transformers does not know: only its labels count.
    """
    try:
        OnnxModel(folder)
        if (folder / "config.json").is_file():
            return PretrainedConfig.from_dict(read_json(folder / "config.json"))
    except GateError as error:
        diagnosis.wrong(str(error), COPY)
    except UsageError as error:  # no ONNX Runtime here
        diagnosis.note(str(error), "Only the files beside the graph were looked at.")
    return None


def _tell_unknown(folder: Path, diagnosis: Diagnosis) -> None:
    inside = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    below = [name for name in inside if (folder / name).is_dir()
             and identify(folder / name).kind != UNKNOWN]  # fmt: skip
    listed = ", ".join(inside[:8]) + (", …" if len(inside) > 8 else "")
    if (folder / "config.json").is_file():
        what = "has a config.json, and no weights beside it (model.safetensors)"
    else:
        what = f"is nothing that can predict; in it {f'are {listed}' if inside else 'is nothing'}"
    named = f"{', '.join(below[:3])} in it can be examined" if below else (
        f"a model has config.json and model.safetensors, an adapter {ADAPTER_CONFIG}, a checkpoint "
        "of DeepSpeed global_stepN/"
    )  # fmt: skip
    diagnosis.wrong(f"{folder}: {what}.", f"Name another directory: {named}.")
