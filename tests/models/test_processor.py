"""What malloc keeps, and gives back."""

import ctypes

import psutil
import pytest

from textassay.models.processor import return_freed_memory


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this is not glibc")
def test_memory_that_was_freed_is_returned_although_something_lies_behind_it() -> None:
    process = psutil.Process()
    blocks = [bytes(2_000) for _ in range(60_000)]
    del blocks[:-1]
    kept = process.memory_info().rss
    return_freed_memory()
    assert kept - process.memory_info().rss > 60_000_000
    assert len(blocks) == 1
