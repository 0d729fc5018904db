"""Data files take memory in proportion to their size: few bytes may stand for millions of rows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from textassay.console import counted
from textassay.errors import DataError
from textassay.memory import limited_memory, room_for

# What a cell takes at least, in Arrow or as an entry of a dictionary.
BYTES_OF_CELL = 16


@contextmanager
def in_proportion(paths: Sequence[Path]) -> Iterator[None]:
    """DataError where the block, which reads these files, takes out of proportion to their size."""
    size = sum(path.stat().st_size for path in paths)
    pool = pa.default_memory_pool()
    # For those who import us after Arrow; see `choose_allocator`.
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        with limited_memory(room_for(size)):
            yield
    except MemoryError:
        raise out_of_proportion(paths, size) from None
    finally:
        pa.set_memory_pool(pool)


def out_of_proportion(paths: Sequence[Path], size: int) -> DataError:
    """What to raise where files of so many bytes would take much more memory."""
    several = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return DataError(
        f"{paths[0]}{several}: {counted(size, 'byte')} would take more than "
        f"{room_for(size) / 1e6:,.0f} MB of memory to read, so a few values stand for very many; "
        "leave rows and columns out that only repeat others, or write it as CSV."
    )


def refuse_many_cells(path: Path, cells: int) -> None:
    """DataError where rows times columns are out of all proportion to a file's size."""
    size = path.stat().st_size
    if cells * BYTES_OF_CELL > room_for(size):
        raise out_of_proportion([path], size)


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file by one thread: what others would take for themselves is not the file's."""
    return pq.read_table(
        path, columns=columns and list(columns), memory_map=True, use_threads=False,
        pre_buffer=False,
    )  # fmt: skip
