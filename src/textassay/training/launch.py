"""Start the processes of a run on this machine: python -m textassay.training.launch COUNT SCRIPT …

COUNT is a number, or a device (`auto`, `cpu`, `cuda`) that says it. The exit code is that of the
first process that failed, and what is printed is what the processes print: torchrun itself ends
with 1 and a traceback of its own.
"""

import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch.distributed import DistNetworkError, DistStoreError
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from textassay.console import INTERRUPTED, reports_errors
from textassay.errors import TextassayError
from textassay.interpreter import python_command
from textassay.stopping import (
    SECONDS_BETWEEN_LOOKS,
    asked_to_stop,
    heeding_signals,
    settled,
    started_by_this,
)
from textassay.temporary import temporary_folder
from textassay.threads import share_threads
from textassay.training.ranks import STORE

ON_A_CPU = 2
# SIGTERM is ours: see _passing_on.
HANDLED_BY_TORCH = "SIGINT,SIGHUP,SIGQUIT"
# How long a node waits for another one, which may still be publishing the run before.
SECONDS_TO_MEET = 1800


@dataclass(frozen=True)
class Meeting:
    """Where the processes of several nodes find each other: at a port of the first one.

    `name` is the same on all of them, and no other meeting's.
    """

    nodes: int
    node: int
    address: str
    port: int
    name: str


def count_processes(wanted: str) -> int:
    """A process for each GPU; without any, or where the CPU is asked for, two."""
    if wanted.isdigit():
        return int(wanted)
    gpus = torch.cuda.device_count() if wanted != "cpu" else 0
    return gpus or ON_A_CPU


def start_processes(count: int, command: list[str], meeting: Meeting | None = None) -> int:
    """Carry out `command` in so many processes that find each other; the first bad exit code.

    With a meeting they are this node's part of them. TextassayError if the others do not come.
    """
    share_threads(count)
    os.environ.update(started_by_this())
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        with temporary_folder("launch") as folder:
            notes = DefaultLogsSpecs(log_dir=str(folder))
            config = _meet(count, meeting, notes) if meeting else _alone(count, notes, folder)
            with _passing_on(), nullcontext() if meeting else _private_store(folder):
                elastic_launch(config, command[0])(*command[1:])
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        return settled(first.exitcode if first.exitcode > 0 else 128 - first.exitcode)
    except SignalException as ended:
        return 128 + int(ended.sigval)
    except (DistStoreError, DistNetworkError) as error:
        raise TextassayError(_nobody_came(meeting, error)) from None
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _alone(count: int, notes: DefaultLogsSpecs, folder: Path) -> LaunchConfig:
    """Processes that meet in files of `folder`, which is private to the user.

    torch unpickles what lies in the store of a rendezvous, and its TCP store takes anything from
    anybody who reaches a port of the machine.
    """
    return LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, run_id=uuid.uuid4().hex,
        rdzv_backend="c10d", rdzv_endpoint=str(folder / "rendezvous"),
        rdzv_configs={"store_type": "file"}, max_restarts=0,
        # Without a network nobody knows the machine by its name.
        local_addr="localhost", signals_to_handle=HANDLED_BY_TORCH, logs_specs=notes,
    )  # fmt: skip


@contextmanager
def _private_store(folder: Path) -> Iterator[None]:
    """In the block processes that are started meet in `folder`, and talk over the loopback."""
    settings = {STORE: str(folder / "ranks"), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    if sys.platform == "linux":
        settings["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _meet(count: int, meeting: Meeting, notes: DefaultLogsSpecs) -> LaunchConfig:
    """Ranks in the order of the nodes, so that the main process is on the first one."""
    return LaunchConfig(
        min_nodes=meeting.nodes, max_nodes=meeting.nodes, nproc_per_node=count,
        run_id=meeting.name, rdzv_backend="static",
        rdzv_endpoint=f"{meeting.address}:{meeting.port}",
        rdzv_configs={"rank": meeting.node, "timeout": SECONDS_TO_MEET}, max_restarts=0,
        signals_to_handle=HANDLED_BY_TORCH, logs_specs=notes,
    )  # fmt: skip


def _nobody_came(meeting: Meeting | None, error: Exception) -> str:
    first = str(error).partition("\n")[0]
    if meeting is None:
        return f"the processes of this machine did not find each other ({first})."
    where = f"{meeting.address}:{meeting.port}"
    return (
        f"node {meeting.node + 1} of {meeting.nodes} did not find the others at {where} "
        f"({first}). What another node prints may say why; else see whether the nodes reach "
        "each other at that address."
    )


@contextmanager
def _passing_on() -> Iterator[None]:
    """A signal that asks to stop reaches every process, and they end in their own time.

    torchrun would pass it on as well, and kill whatever is not gone after 30 seconds.
    """
    over = threading.Event()
    thread = threading.Thread(target=_pass_on, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _pass_on(over: threading.Event) -> None:
    told: set[int] = set()
    while not over.wait(SECONDS_BETWEEN_LOOKS):
        for child in psutil.Process().children() if asked_to_stop() else []:
            if child.pid not in told:
                told.add(child.pid)
                child.send_signal(signal.SIGTERM)


@reports_errors
def main(wanted: str, command: list[str]) -> int:
    """The exit code of the first of this machine's processes that failed."""
    return start_processes(count_processes(wanted), command)


if __name__ == "__main__":
    with heeding_signals():
        sys.exit(main(sys.argv[1], python_command(*sys.argv[2:])))
