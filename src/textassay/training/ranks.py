"""The processes that carry out one run together, as torchrun and deepspeed count them."""

import importlib.util
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from textassay.console import rank
from textassay.errors import TextassayError, UsageError, first_line

Decided = TypeVar("Decided")
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
        alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1",
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}  # fmt: skip
        os.environ.update(alone)


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


def from_main(decide: Callable[[], Decided]) -> Decided:
    """What the main process decides; the others are told, since what they see may be older."""
    if not dist.is_initialized():
        return decide()
    told: list[Any] = [decide() if is_main() else None]
    with together():
        dist.broadcast_object_list(told, src=0)
    decided: Decided = told[0]
    return decided


def any_of_us(flag: bool) -> bool:
    """Whether `flag` is set in one of the processes: the same answer in all of them."""
    if not dist.is_initialized():
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    found = torch.tensor(int(flag), device=device)
    with together():
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return bool(found)


def refuse_lonely_launcher(launcher: str) -> None:
    """UsageError where several processes were started for a launcher that knows only one."""
    if world_size() > 1 and launcher != "deepspeed":
        raise UsageError(
            f"the launcher {launcher} is one process, and {world_size()} were started; use "
            "scripts/train_deepspeed.py, or start one."
        )


def part() -> None:
    """End the work together; what comes after, a process does alone."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
