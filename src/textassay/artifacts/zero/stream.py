"""A safetensors file, written tensor by tensor and part by part, so that no tensor is held whole.

The library's own writer wants all of a file's tensors in memory at once.
The format: https://github.com/huggingface/safetensors#format
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from textassay.errors import DataError

DTYPE_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
HEADER_ALIGNMENT = 8


def nobody(count: int) -> None:
    """Takes a number of bytes where nobody wants to know it."""


@dataclass(frozen=True)
class Entry:
    """A tensor of the file: `parts()` yields its numbers, flat and in their order.

    A part is written before the next one is asked for, so it may lie in a buffer used again.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    parts: Callable[[], Iterable[torch.Tensor]]

    @property
    def nbytes(self) -> int:
        """How many bytes it takes in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_safetensors(
    path: Path, entries: Sequence[Entry], wrote: Callable[[int], None] = nobody
) -> None:
    """Write a file of these tensors; `wrote` is told each tensor's bytes when they are written.

    DataError where a tensor has no elements or is of a dtype that the format has no name for,
    ValueError where two have one name or the parts are not what the entry says.
    """
    # The widest numbers first, as the library does it: every tensor then begins at a multiple of
    # its own width.
    ordered = sorted(entries, key=lambda entry: -entry.dtype.itemsize)
    header = _header(ordered)
    with path.open("wb", buffering=0) as file:
        _write(file, memoryview(header))
        for entry in ordered:
            _write_entry(file, entry)
            wrote(entry.nbytes)


def _header(entries: Sequence[Entry]) -> bytes:
    """The length of what follows in 8 bytes, and JSON that says where each tensor lies."""
    content: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for entry in entries:
        if entry.name in content:
            raise ValueError(f"{entry.name}: stands there twice")
        if not entry.nbytes:
            raise DataError(f"{entry.name}: has no elements; an empty tensor is never written.")
        if entry.dtype not in DTYPE_NAMES:
            raise DataError(f"{entry.name}: is of {entry.dtype}, which safetensors cannot hold.")
        content[entry.name] = {
            "dtype": DTYPE_NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [start, start + entry.nbytes],
        }
        start += entry.nbytes
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _write_entry(file: BinaryIO, entry: Entry) -> None:
    written = 0
    for part in entry.parts():
        if part.dtype != entry.dtype:
            raise ValueError(f"{entry.name}: a part is {part.dtype} and not {entry.dtype}")
        # numpy has no bfloat16: it is given bytes.
        flat = part.detach().contiguous().flatten().view(torch.uint8)
        _write(file, flat.numpy().data)
        written += flat.numel()
    if written != entry.nbytes:
        raise ValueError(f"{entry.name}: {written} bytes came instead of {entry.nbytes}")


def _write(file: BinaryIO, content: memoryview) -> None:
    """All of it: a call to the system takes 2 GB at most, and may take less."""
    while content:
        content = content[file.write(content) :]
