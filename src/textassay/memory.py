"""How much memory a file may take while it is read, in proportion to its size.

A few bytes can say that they are many: a column of one value in a million rows, a graph that fills
a tensor. What a file may make of itself is bounded here, and the system holds the process to it.
"""

import os
import resource
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

# Room that any file has, however small, and what each of its bytes may become.
ROOM = 128 * 2**20
GROWTH = 64
STATUS = Path("/proc/self/statm")


class _Limit:
    """The blocks that run now in this process, and what they may take together."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.blocks = 0
        self.granted = self.taken = 0
        self.before = resource.RLIM_INFINITY

    def change(self, blocks: int, count: int) -> None:
        """Begin or end a block that may take so many bytes."""
        with self.lock:
            soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
            if not self.blocks:
                self.before = soft
            self.blocks += blocks
            self.granted += blocks * count
            if blocks > 0:  # what the rest of the process has come to take meanwhile is not theirs
                self.taken = _bytes_of_data()
            limits = [self.before, hard, *([self.taken + self.granted] if self.blocks else [])]
            known = [limit for limit in limits if limit != resource.RLIM_INFINITY]
            soft = min(known, default=resource.RLIM_INFINITY)
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


_limit = _Limit()


def choose_allocator(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have Arrow ask the system for memory, before it is imported; the user's own choice stays.

    Its own allocator reserves a gigabyte at once, in which no limit is noticed.
    """
    environment.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def room_for(size: int, growth: int = GROWTH) -> int:
    """How many bytes of memory a file of so many bytes may take."""
    return ROOM + growth * size


@contextmanager
def limited_memory(count: int) -> Iterator[None]:
    """In the block this process can take `count` bytes more memory than it has; blocks add up.

    What asks for more gets none, and raises what its library raises: MemoryError in Python and
    Arrow. Linux counts and limits memory that can be written to (RLIMIT_DATA); other systems do
    not, and the block runs without a limit.
    """
    if not STATUS.is_file():
        yield
        return
    _limit.change(1, count)
    try:
        yield
    finally:
        _limit.change(-1, count)


def _bytes_of_data() -> int:
    """The memory of this process that RLIMIT_DATA counts."""
    return int(STATUS.read_text(encoding="ascii").split()[5]) * resource.getpagesize()
