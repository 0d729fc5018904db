"""A session of ONNX Runtime, and the logits that it computes for token ids."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from textassay.artifacts.onnx_files import DATA_SUFFIX
from textassay.console import counted
from textassay.errors import GateError, UsageError, first_line
from textassay.memory import limited_memory, room_for

LOGITS = "logits"
# So many tokens, padding included, are computed at once: more does not fit into the CPU's caches.
TOKENS_AT_ONCE = 512
# ONNX Runtime would put these back together to a kernel that is slower on CPUs than its parts.
SLOWER_FUSIONS = ["SkipLayerNormFusion", "EmbedLayerNormFusion"]
# Opening a graph makes copies of its numbers: as read, as they are held, as a kernel wants them.
GROWTH_OF_GRAPH = 8
# What a layer takes for a pair of tokens of one text: 64 heads, a few times.
BYTES_OF_PAIR = 1024


class Feed(Protocol):
    """Makes a graph's inputs out of the token ids of a batch of rows.

    `pads` is whether rows of different length may stand in one batch; `most_rows` is how many may.
    """

    pads: ClassVar[bool]

    @property
    def most_rows(self) -> int | None: ...
    def __call__(self, rows: Sequence[Sequence[int]]) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True)
class PaddedFeed:
    """The inputs of a graph that textassay exported: rows padded on the right, and their mask."""

    pad_id: int
    pads: ClassVar[bool] = True
    most_rows: None = None

    def __call__(self, rows: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
        """`input_ids` and `attention_mask`, int64 of shape [rows, longest]."""
        longest = max(len(row) for row in rows)
        ids = np.full((len(rows), longest), self.pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return {"input_ids": ids, "attention_mask": mask}


def run_batches(
    session: Any,
    input_ids: Sequence[Sequence[int]],
    feed: Feed,
    batch_size: int | None = None,
    pool: ThreadPoolExecutor | None = None,
) -> np.ndarray:
    """The logits that a session gives for token ids, [rows, labels], in the order of the rows.

    Rows of similar length go together, so that little is padded; batches go to the threads of a
    pool, where there is one. GateError where the graph cannot compute a batch.
    """
    parts = list(_batches(input_ids, batch_size, feed))
    run = partial(_run, session, input_ids, feed)
    answers = pool.map(run, parts) if pool and len(parts) > 1 else map(run, parts)
    found: list[np.ndarray | None] = [None] * len(input_ids)
    for rows, logits in zip(parts, answers, strict=True):
        for row, one in zip(rows, logits, strict=True):
            found[row] = one
    return np.array(found, dtype=np.float32)


def _batches(
    input_ids: Sequence[Sequence[int]], batch_size: int | None, feed: Feed
) -> Iterator[list[int]]:
    """Row numbers, the longest rows first."""
    order = sorted(range(len(input_ids)), key=lambda row: -len(input_ids[row]))
    start = 0
    while start < len(order):
        longest = len(input_ids[order[start]])
        count = batch_size or max(1, TOKENS_AT_ONCE // longest)
        rows = order[start : start + min(count, feed.most_rows or count)]
        if not feed.pads:
            rows = [row for row in rows if len(input_ids[row]) == longest]
        yield rows
        start += len(rows)


def _run(
    session: Any, input_ids: Sequence[Sequence[int]], feed: Feed, numbers: Sequence[int]
) -> np.ndarray:
    rows = [input_ids[number] for number in numbers]
    try:
        logits: np.ndarray = session.run([LOGITS], feed(rows))[0]
    except GateError:
        raise
    except Exception as error:  # the library's classes are not public
        longest = max(len(row) for row in rows)
        raise GateError(
            f"the ONNX graph cannot compute {counted(len(rows), 'text')} of up to {longest} tokens "
            f"({first_line(error)[:300]}); export the classifier anew."
        ) from None
    return logits


class BoundedSession:
    """A session of ONNX Runtime whose runs take memory in proportion to the graph and the texts."""

    def __init__(self, session: Any, size: int, device: str) -> None:
        self._session, self._size, self._device = session, size, device

    def __getattr__(self, name: str) -> Any:
        """What else a session knows: its inputs, its outputs, its metadata."""
        return getattr(self._session, name)

    def run(self, names: Sequence[str], inputs: Mapping[str, np.ndarray]) -> Any:
        """The named outputs. GateError where the graph wants memory out of proportion."""
        rows, length = next(iter(inputs.values())).shape
        room = room_for(self._size, growth=1) + BYTES_OF_PAIR * rows * length**2
        try:
            with _limited(room, self._device):
                return self._session.run(names, inputs)
        except Exception as error:  # the library's classes are not public
            if not _asks_for_memory(error):
                raise
            raise GateError(
                f"the ONNX graph wants more than {room / 1e6:,.0f} MB of memory for "
                f"{counted(rows, 'text')} of {counted(length, 'token')}, out of proportion to its "
                f"{counted(self._size, 'byte')}; export the classifier anew."
            ) from None


def _limited(room: int, device: str) -> AbstractContextManager[None]:
    """A block with so much memory; CUDA maps memory of its own, without bounds."""
    return nullcontext() if device == "cuda" else limited_memory(room)


def _asks_for_memory(error: Exception) -> bool:
    """Whether ONNX Runtime says that it got no memory."""
    return any(words in str(error) for words in ("Failed to allocate memory", "bad_alloc"))


def _bytes_beside(file: Path) -> int:
    """The bytes of a graph and of what lies beside it, where it may keep its numbers."""
    return sum(path.stat().st_size for path in file.parent.iterdir() if path.is_file())


def open_session(file: Path, device: str = "cpu") -> Any:
    """A session of ONNX Runtime; each of its runs uses one thread.

    GateError for what is no ONNX file, UsageError where the library is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UsageError(
            f"{file}: needs ONNX Runtime, which is not installed; run: "
            "python -m pip install -c constraints.txt -e '.[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # an error is raised as well, without colours
    wanted = ["CPUExecutionProvider"]
    if device == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise UsageError(
                "--device cuda: this build of ONNX Runtime has no CUDA (onnxruntime-gpu has); "
                "use --device cpu, or the torch artifact."
            )
        wanted = ["CUDAExecutionProvider", *wanted]
    size = _bytes_beside(file)
    room = room_for(size, GROWTH_OF_GRAPH)
    try:
        with _limited(room, device):
            session = onnxruntime.InferenceSession(
                str(file), options, providers=wanted, disabled_optimizers=SLOWER_FUSIONS
            )
    except Exception as error:  # the library's classes are not public
        if _asks_for_memory(error):
            raise GateError(
                f"{file}: wants more than {room / 1e6:,.0f} MB of memory to be opened, out of "
                f"proportion to its {counted(size, 'byte')}; export the classifier anew."
            ) from None
        raise GateError(
            f"{file}: is no ONNX file that can be run ({first_line(error)[:300]}); it is broken or "
            f"cut off, or numbers that it keeps in a file beside it ({file.name}{DATA_SUFFIX}) are "
            "missing: copy the whole directory again."
        ) from None
    return BoundedSession(session, size, device)
