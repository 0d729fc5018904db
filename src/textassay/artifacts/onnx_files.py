"""What the files of an ONNX artifact are called and where they lie. Nothing is read."""

from pathlib import Path

ONNX, ONNX_INT8 = "onnx", "onnx-int8"
# The names that Optimum gave them, which programs look for.
ONNX_FILE, INT8_FILE = "model.onnx", "model_quantized.onnx"
# Where numbers lie that do not fit into one file of Protocol Buffers, 2 GB.
DATA_SUFFIX = ".data"


def onnx_kind(folder: Path) -> str | None:
    """`onnx` or `onnx-int8` for a directory that holds such a file and no weights of torch."""
    file = _graph(folder)
    if file is None:
        return None
    return ONNX_INT8 if file.name == INT8_FILE else ONNX


def onnx_file(folder: Path) -> Path:
    """The graph's file of such a directory."""
    return _graph(folder) or folder / ONNX_FILE


def _graph(folder: Path) -> Path | None:
    """The graph in a directory, or in `onnx/` below its config, where the hub's models keep it."""
    torch_files = ("*.safetensors", "pytorch_model*.bin", "adapter_config.json")
    if any(any(folder.glob(pattern)) for pattern in torch_files):
        return None
    below = folder / ONNX
    places = (folder, below) if (folder / "config.json").is_file() else (folder,)
    files = (place / name for place in places for name in (ONNX_FILE, INT8_FILE))
    return next((file for file in files if file.is_file()), None)
