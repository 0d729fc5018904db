"""What the files of an ONNX artifact are called. Nothing is imported, nothing is read."""

from pathlib import Path

ONNX, ONNX_INT8 = "onnx", "onnx-int8"
# The names that Optimum gave them, which programs look for.
ONNX_FILE, INT8_FILE = "model.onnx", "model_quantized.onnx"
# Where numbers lie that do not fit into one file of Protocol Buffers, 2 GB.
DATA_SUFFIX = ".data"


def onnx_kind(folder: Path) -> str | None:
    """`onnx` or `onnx-int8` for a directory that holds such a file and no weights of torch."""
    torch_files = ("*.safetensors", "pytorch_model*.bin", "adapter_config.json")
    if any(any(folder.glob(pattern)) for pattern in torch_files):
        return None
    if (folder / ONNX_FILE).is_file():
        return ONNX
    return ONNX_INT8 if (folder / INT8_FILE).is_file() else None


def onnx_file(folder: Path) -> Path:
    """The graph's file in such a directory."""
    return folder / (INT8_FILE if onnx_kind(folder) == ONNX_INT8 else ONNX_FILE)
