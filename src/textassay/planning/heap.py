"""What glibc's malloc makes of a step on a CPU: python -m textassay.planning.heap < layout.json

A CPU has no allocator of PyTorch's own. Tensors lie on 64-byte borders, and what glibc (2.36) cuts
off behind one stays in its cache of small blocks (tcache), between the tensor's place and the free
memory behind it; so the next tensor of the same size does not fit there, and the heap grows: for
small models to more than twice what is in it. How far is asked of malloc itself: the step's
allocations are repeated in an empty process that never touches them, which costs no memory.
"""

import ctypes
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

from textassay.interpreter import python_command
from textassay.models.processor import keep_freed_memory

# (number of a storage, its bytes or FREED)
Event = tuple[int, int]
FREED = -1
ALIGNMENT = 64
# What PyTorch puts beside a tensor on the same heap, in bytes: the tensor, its storage, its
# autograd record, its node of the graph with the tensors that it saved, and the edges from there.
# These small blocks settle in the holes of large ones, which then fit no more.
BESIDE_A_TENSOR = (208, 112, 176, 400, 96, 48)
# Smaller blocks find a place in what is there, and asking takes longer than allocating.
WORTH_A_LOOK = 1 << 20
# So many that the heap grows no more.
STEPS = 8


@dataclass(frozen=True)
class Layout:
    """The blocks of a training: as it is built, what then takes its place, and what is repeated.

    `again` is the artifact, which is read back at the end beside the model that was trained, and
    `answering` what it takes to evaluate it.
    """

    built: list[int]
    kept: list[int]
    states: list[int]
    step: list[Event]
    evaluation: list[Event]
    again: list[int]
    answering: list[Event]


class _MallInfo(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
                     "uordblks", "fordblks", "keepcost")
    )  # fmt: skip


class _Heap:
    """The allocations of PyTorch on a CPU, by number."""

    def __init__(self, libc: Any) -> None:
        libc.mallinfo2.restype = _MallInfo
        libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        libc.free.argtypes = [ctypes.c_void_p]
        libc.posix_memalign.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
        keep_freed_memory(libc)
        self._libc = libc
        self._before = self._highest = self._size()

    def take(self, size: int) -> list[int]:
        """A tensor of so many bytes: its blocks."""
        blocks = [self._libc.malloc(small) for small in BESIDE_A_TENSOR]
        block = ctypes.c_void_p()
        if self._libc.posix_memalign(ctypes.byref(block), ALIGNMENT, max(1, size)):
            raise MemoryError
        if size >= WORTH_A_LOOK:
            self._highest = max(self._highest, self._size())
        return [block.value or 0, *blocks]

    def free(self, blocks: list[int]) -> None:
        """Give them back."""
        for block in blocks:
            self._libc.free(block)

    def grown(self) -> int:
        """By how many bytes the heap had grown at most; beyond 2 GiB its free end is given back."""
        return max(self._highest, self._size()) - self._before

    def _size(self) -> int:
        found = self._libc.mallinfo2()
        return int(found.arena + found.hblkhd)


def heap_size(layout: Layout) -> int | None:
    """The bytes that a training of this layout takes from the system; None without glibc."""
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        return None
    done = subprocess.run(
        python_command("-m", "textassay.planning.heap"), input=json.dumps(asdict(layout)),
        capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "0"},
    )  # fmt: skip
    # Where the machine does not even promise so much memory, its heap cannot be asked.
    return int(done.stdout) if done.returncode == 0 else None


def _repeat(layout: dict[str, list[Any]], heap: _Heap) -> int:
    built = [heap.take(size) for size in layout["built"]]
    if layout["kept"] != layout["built"]:
        kept = [heap.take(size) for size in layout["kept"]]
        for blocks in built:
            heap.free(blocks)
        built = kept
    states: list[list[int]] = []
    for _ in range(STEPS):
        gradients = _events(layout["step"], heap)
        states = states or [heap.take(size) for size in layout["states"]]
        for blocks in gradients:
            heap.free(blocks)
    for blocks in _events(layout["evaluation"], heap):
        heap.free(blocks)
    for blocks in states:
        heap.free(blocks)
    for size in layout["again"]:
        heap.take(size)
    _events(layout["answering"], heap)
    return heap.grown()


def _events(events: list[Event], heap: _Heap) -> list[list[int]]:
    """Go through the events; the blocks that are left."""
    there: dict[int, list[int]] = {}
    for number, size in events:
        if size == FREED:
            heap.free(there.pop(number))
        else:
            there[number] = heap.take(size)
    return list(there.values())


if __name__ == "__main__":
    print(_repeat(json.load(sys.stdin), _Heap(ctypes.CDLL(None))))
