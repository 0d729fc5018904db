"""An adapter and its base as one plain model."""

from pathlib import Path
from typing import Any

from peft import PeftModel

from textassay.artifacts.kinds import load_adapter, read_config
from textassay.models.classifier import SETTINGS_KEY
from textassay.models.methods import merge


def merged_classifier(folder: Path, base: str | None = None) -> Any:
    """The plain transformers model, in fp32, that computes what the adapter in `folder` does.

    A base in 4 bits is dequantised first: merging into 4 bits would round the adapter away. So the
    merged model multiplies in fp32 what the adapter multiplied in bf16, and its logits differ.
    UsageError where the method cannot be merged.
    """
    config = read_config(folder)
    settings = getattr(config, SETTINGS_KEY, None) or {}
    quantized = bool(settings.get("quantization"))
    model: PeftModel
    model, _ = load_adapter(folder, config, base, dequantize=quantized)
    merged = merge(model)
    if settings:
        setattr(merged.config, SETTINGS_KEY, {**settings, "quantization": None})
    return merged.float().eval()
