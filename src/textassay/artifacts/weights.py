"""What the weights of an artifact are called, in new and in old programs, and what they take."""

from pathlib import Path

from textassay.artifacts.identify import ADAPTER, MODEL
from textassay.artifacts.onnx_files import onnx_file, onnx_kind
from textassay.files import replacing
from textassay.models.source import Source, weight_files

WEIGHTS = {ADAPTER: "adapter_model.safetensors", MODEL: "model.safetensors"}
# The names that programs before safetensors look for.
BIN = {WEIGHTS[ADAPTER]: "adapter_model.bin", WEIGHTS[MODEL]: "pytorch_model.bin"}


def adapter_file(folder: Path) -> Path:
    """The file with an adapter's weights: safetensors where it is there, else PEFT's older pickle.

    PEFT reads the pickle with torch's weights-only loader, and so does everything here.
    """
    safe = folder / WEIGHTS[ADAPTER]
    pickled = folder / BIN[WEIGHTS[ADAPTER]]
    return pickled if pickled.is_file() and not safe.is_file() else safe


def write_bin(folder: Path) -> None:
    """The weights in a folder once more, under the names that older programs look for."""
    import torch
    from safetensors.torch import load_file

    for safe, pickled in BIN.items():
        if (folder / safe).is_file():
            with replacing(folder / pickled) as scratch:
                torch.save(load_file(folder / safe), scratch)


def weight_bytes(folder: Path, base: Source | None = None) -> int:
    """The bytes of an artifact's weights on disk, with those of its base if it is an adapter."""
    if onnx_kind(folder):
        graph = onnx_file(folder)
        files = list(graph.parent.glob(f"{graph.name}*"))
    elif base is None:
        files = weight_files(folder)
    else:
        files = [adapter_file(folder), *weight_files(base.path)]
    return sum(path.stat().st_size for path in files)
