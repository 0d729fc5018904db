"""The processes that carry out one run together, as torchrun and deepspeed count them."""

import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from textassay.console import rank
from textassay.errors import TextassayError, UsageError, first_line

# The variable that names the file through which the processes of one machine find each other.
STORE = "TEXTASSAY_RANKS_STORE"
# What gloo and NCCL say when a peer is gone.
LOST = re.compile(r"closed by peer|Connection (reset|closed|refused)|remote process", re.IGNORECASE)


def prepare_rank(wanted_device: str) -> None:
    """Get ready for DeepSpeed, before anything imports it. UsageError where it is not installed.

    A process that nobody counted is a run of one.
    """
    if importlib.util.find_spec("deepspeed") is None:
        raise UsageError(
            "the deepspeed launcher needs DeepSpeed, which is not installed; install the extra: "
            "DS_BUILD_OPS=0 pip install -c constraints.txt -e '.[deepspeed]'"
        )
    if wanted_device == "cpu" or not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    if "RANK" not in os.environ:
        # Libraries want to see the last two; nothing listens there, see init_process_group.
        alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1",
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}  # fmt: skip
        os.environ.update(alone)
        os.environ.pop(STORE, None)


def init_process_group(backend: str, timeout_seconds: float) -> None:
    """Connect the processes of this run on one machine without opening a port for a store.

    Processes that torchrun started, or those of several nodes, are connected by accelerate, over
    the port that their launcher chose.
    """
    if dist.is_initialized():
        return
    timeout = timedelta(seconds=timeout_seconds)
    path = os.environ.get(STORE)
    if path:
        store: Any = dist.FileStore(path, world_size())  # type: ignore[attr-defined]
    elif world_size() == 1:
        store = dist.HashStore()  # type: ignore[attr-defined]
    else:
        return
    dist.init_process_group(
        backend, store=store, rank=rank(), world_size=world_size(), timeout=timeout
    )


def world_size() -> int:
    """How many processes carry out the run."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def is_main() -> bool:
    """Whether this is the process that speaks, writes and publishes."""
    return rank() == 0


@contextmanager
def together() -> Iterator[None]:
    """Work that every process has a part in. TextassayError where another one has ended."""
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or not LOST.search(str(error)):
            raise
        raise TextassayError(
            f"process {rank()}: another process of this run has ended; what it said "
            f"is the reason ({first_line(error)[:200]})."
        ) from None


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if dist.is_initialized():
        with together():
            dist.barrier()


@contextmanager
def main_first() -> Iterator[None]:
    """The main process goes through the block, then the others: what it makes, they find."""
    if not is_main():
        wait_for_all()
    yield
    if is_main():
        wait_for_all()


def path_from_main(find: Callable[[], Path | None]) -> Path | None:
    """The path that the main process finds; the others are told, since what they see may be older.

    It is sent as bytes: `broadcast_object_list` would unpickle what it receives.
    """
    if not dist.is_initialized():
        return find()
    found = find() if is_main() else None
    content = os.fsencode(found) if found else b""
    length = _from_main(torch.tensor([len(content)]))
    size = int(length[0])
    if size == 0:
        return None
    sent = torch.tensor(list(content), dtype=torch.uint8) if found else None
    received = _from_main(torch.zeros(size, dtype=torch.uint8) if sent is None else sent)
    return Path(os.fsdecode(bytes(received.tolist())))


def _from_main(tensor: torch.Tensor) -> torch.Tensor:
    """The main process's values of a tensor that has the same shape in all processes."""
    moved = tensor.to(_device())
    with together():
        dist.broadcast(moved, src=0)
    return moved.cpu()


def any_of_us(flag: bool) -> bool:
    """Whether `flag` is set in one of the processes: the same answer in all of them."""
    if not dist.is_initialized():
        return flag
    found = torch.tensor(int(flag), device=_device())
    with together():
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return bool(found)


def refuse_lonely_launcher(launcher: str) -> None:
    """UsageError where several processes were started for a launcher that knows only one."""
    if world_size() > 1 and launcher != "deepspeed":
        raise UsageError(
            f"the launcher {launcher} is one process, and {world_size()} were started; use "
            "`textassay train-deepspeed`, or start one."
        )


def part() -> None:
    """End the work together; what comes after, a process does alone."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def _device() -> str:
    """Where tensors must lie that the processes exchange."""
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
