"""Do the weights of a model fit its config? transformers itself is asked, on the meta device.

So no weight is read, and renamed, tied and ignored keys are treated as in a real load.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers

from textassay.artifacts.doctor.findings import Diagnosis, several
from textassay.artifacts.doctor.weights import Stored
from textassay.errors import first_line
from textassay.models.heads import classifier_class
from textassay.models.source import SETTINGS_KEY

HEAD_ADVICE = "Save the model together with its head, or train again; without it, it guesses."
FIT_ADVICE = "Put config.json and weights of one training together."


@contextmanager
def alone() -> Iterator[None]:
    """No network, and no warnings and bars of the libraries, which the findings only repeat."""
    before = transformers.logging.get_verbosity()
    offline = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(before)
        if offline is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = offline


def load_shape(folder: Path, config: Any) -> tuple[Any, dict[str, Any]]:
    """The classifier of a config without weights, and transformers' report on the keys in `folder`.

    Raises whatever transformers raises.
    """
    settings = getattr(config, SETTINGS_KEY, None) or {}
    model, info = classifier_class(config, settings).from_pretrained(
        folder,
        config=config,
        device_map="meta",
        dtype="float32",
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        weights_only=True,
    )
    return model, info


def compare_with_config(
    folder: Path, config: Any, stored: dict[str, Stored], diagnosis: Diagnosis
) -> None:
    """Add a finding where a load would make up a tensor, or leave one over."""
    try:
        model, info = load_shape(folder, config)
    # A config with odd values fails in any of the library's layers.
    except Exception as error:
        _tell_failure(error, config, diagnosis)
        return
    prefix = f"{model.base_model_prefix}."
    missing = sorted(info["missing_keys"])
    head = [key for key in missing if not key.startswith(prefix)]
    weights = next(iter(stored.values())).file.name
    if head:
        diagnosis.wrong(
            f"{weights}: the classification head is missing ({several(head)}).", HEAD_ADVICE
        )
    elif missing:
        diagnosis.wrong(
            f"{weights}: the tensor {several(missing)} is missing, which the config wants.",
            FIT_ADVICE,
        )
    mismatched = sorted(info["mismatched_keys"], key=lambda found: (len(found[1]) < 2, found[0]))
    for key, found, wanted in mismatched[:1]:
        tell_mismatch(_spelt(key, stored), found, wanted, len(config.id2label), stored, diagnosis)
    left = sorted(info["unexpected_keys"])
    if left:
        diagnosis.wrong(
            f"{weights}: the tensor {several(left)} belongs to nothing in the config's model.",
            FIT_ADVICE,
        )


def tell_mismatch(
    key: str, found: Any, wanted: Any, labels: int, stored: dict[str, Stored], diagnosis: Diagnosis
) -> None:
    """Add that a tensor has another shape than the config's model, or another label count."""
    file = stored[key].file.name if key in stored else next(iter(stored.values())).file.name
    if list(found[1:]) == list(wanted[1:]) and wanted[0] == labels:
        diagnosis.wrong(
            f"{file}: the head {key} gives {found[0]} labels, where id2label in config.json names "
            f"{labels}.",
            "Write the labels of the training into config.json, all of them and in their order.",
        )
        return
    diagnosis.wrong(
        f"{file}: {key} has the shape {list(found)}, where the config wants {list(wanted)}.",
        FIT_ADVICE,
    )


def _tell_failure(error: Exception, config: Any, diagnosis: Diagnosis) -> None:
    reason = f"{type(error).__name__}: {first_line(error)[:200]}"
    if getattr(config, "quantization_config", None):
        diagnosis.note(
            f"config.json: the model is quantised, and its keys could not be compared ({reason}).",
            "Load it on a machine that can compute with it.",
        )
        return
    diagnosis.wrong(
        f"config.json: no classifier can be built by it ({reason}).",
        "Copy it again from where the directory was made.",
    )


def _spelt(key: str, stored: dict[str, Stored]) -> str:
    """A key of the model as the file has it; some files leave the backbone's name out."""
    ends = (name for name in stored if name == key or key.endswith(f".{name}"))
    return next(ends, key)
