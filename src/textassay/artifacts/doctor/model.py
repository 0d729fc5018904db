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

from textassay.artifacts.doctor.findings import Diagnosis
from textassay.artifacts.doctor.weights import Stored, names_and_shapes
from textassay.artifacts.fitting import model_misfits
from textassay.errors import first_line
from textassay.models.heads import classifier_class
from textassay.models.proportion import refuse_larger, stored_shapes
from textassay.models.quantization import STORED_QUANTIZATION
from textassay.models.source import SETTINGS_KEY


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
    with refuse_larger(f"{folder}: config.json", stored_shapes(folder)):
        model, info = classifier_class(config, settings).from_pretrained(
            folder,
            config=config,
            device_map="meta",
            dtype="float32",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            weights_only=True,
            trust_remote_code=False,
        )
    return model, info


def compare_with_config(
    folder: Path, config: Any, stored: dict[str, Stored], diagnosis: Diagnosis
) -> None:
    """Add a finding where a load would make up a tensor, or leave one over that counts."""
    if getattr(config, STORED_QUANTIZATION, None):  # the names on disk are the packed weights'
        return
    try:
        model, info = load_shape(folder, config)
    # A config with odd values fails in any of the library's layers.
    except Exception as error:
        diagnosis.wrong(
            "config.json: no classifier can be built by it "
            f"({type(error).__name__}: {first_line(error)[:200]}).",
            "Copy it again from where the directory was made.",
        )
        return
    diagnosis.add_misfits(model_misfits(model, info, names_and_shapes(stored)))
