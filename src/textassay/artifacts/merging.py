"""An adapter and its base as one plain model."""

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from textassay.artifacts.adapters import load_adapter, open_adapter
from textassay.artifacts.hallmark import (
    TOLERANCE,
    TOLERANCE_QUANTIZED,
    probe_logits,
    read_hallmark,
    restamp,
    stamp,
    verify_in_fresh_process,
)
from textassay.artifacts.kinds import load_artifact, save_weights
from textassay.artifacts.weights import write_bin
from textassay.errors import GateError
from textassay.files import replacing
from textassay.models.methods import merge
from textassay.models.quantization import STORED_QUANTIZATION
from textassay.models.source import SETTINGS_KEY

# Texts that the hallmark keeps of an adapter that came without one.
PROBE_ROWS = 16
# What storing the weights in half precision may change about a logit.
ROUNDING = {torch.float32: 0.0, torch.bfloat16: 0.1, torch.float16: 0.05}


def merged_classifier(folder: Path, base: str | None = None) -> Any:
    """The plain transformers model, in fp32, that computes what the adapter in `folder` does.

    A base in 4 bits is dequantised first: merging into 4 bits would round the adapter away. So the
    merged model multiplies in fp32 what the adapter multiplied in bf16, and its logits differ.
    UsageError where the method cannot be merged.
    """
    opened = open_adapter(folder, base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries', about names that they will change
        merged = merge(load_adapter(opened, opened.load_tokenizer(), dequantize=True))
    settings = getattr(merged.config, SETTINGS_KEY, None)
    if settings:
        setattr(merged.config, SETTINGS_KEY, {**settings, "quantization": None})
    if hasattr(merged.config, STORED_QUANTIZATION):
        del merged.config.quantization_config
    return merged.float().eval()


def publish_merged(
    adapter: Path,
    folder: Path,
    base: str | None = None,
    dtype: torch.dtype = torch.float32,
    max_shard_size: int | None = None,
    save_bin: bool = False,
    texts: Sequence[str] = (),
) -> float:
    """Merge the adapter in one directory into a model in another; the largest change of a logit.

    `texts` are what an adapter without a hallmark is compared on.
    `base` says where the adapter's base lies, `dtype` what the model is stored in, `save_bin` that
    pytorch_model.bin is written beside the safetensors. The model is read back, compared with the
    adapter's stamped logits, stamped as made from it, and verified in a fresh process. GateError
    where the merged model answers otherwise.
    """
    reference = _reference(adapter, base, texts)
    with replacing(folder) as scratch:
        save_weights(merged_classifier(adapter, base).to(dtype), scratch, max_shard_size)
        open_adapter(adapter, base).load_tokenizer().save_pretrained(scratch)
        for name in ("label_mapping.json", "README.md", "consolidation.json"):
            if (adapter / name).is_file():
                shutil.copy(adapter / name, scratch)
        if save_bin:
            write_bin(scratch)
        loaded = load_artifact(scratch)
        if read_hallmark(adapter) is None:  # somebody else's
            facts = {"name": adapter.name, "weights": ""}
            probe = stamp(scratch, loaded, reference["texts"], facts, {}, {}, {})["probe"]
        else:
            probe = restamp(scratch, adapter, loaded)["probe"]
        after, before = np.array(probe["logits"]), np.array(reference["logits"])
        difference = float(np.abs(after - before).max(initial=0.0))
        allowed = max(10 * reference["tolerance"], ROUNDING[dtype])
        if not difference <= allowed:
            raise GateError(
                f"{folder}: the merged model's logits differ by {difference:.4g} from the "
                f"adapter's (at most {allowed:.4g} is allowed); nothing was saved."
            )
        verify_in_fresh_process(scratch)
    return difference


def _reference(adapter: Path, base: str | None, texts: Sequence[str]) -> dict[str, Any]:
    """Texts with the adapter's logits: those of its hallmark; of one without, computed here."""
    stamped = read_hallmark(adapter)
    if stamped is not None:
        probe: dict[str, Any] = stamped["probe"]
        return probe
    if not texts:
        raise GateError(f"{adapter}: carries no hallmark, so there is nothing to hold a merge to.")
    loaded = load_artifact(adapter, base, tell=False)
    kept = list(texts[:PROBE_ROWS])
    tolerance = TOLERANCE_QUANTIZED if loaded.is_quantized else TOLERANCE
    return {"texts": kept, "logits": probe_logits(loaded, kept), "tolerance": tolerance}
