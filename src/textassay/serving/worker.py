"""One of several server processes, and what the first process and it say to each other."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from textassay.console import reports_errors
from textassay.errors import TextassayError
from textassay.serving.places import Place
from textassay.serving.reloading import Reloader, describe_error
from textassay.serving.service import Service
from textassay.serving.settings import Settings

# What the first process asks for.
PREPARE, DISCARD, SWAP, KNOW = "prepare", "discard", "swap", "know"
# What a worker answers: that it serves, that it has prepared or swapped, or why it has not.
SERVES, PREPARED, SWAPPED, FAILED = "serves", "prepared", "swapped", "failed"


class Message(NamedTuple):
    """A line between the first process and a worker. `content` is plain, so that it is pickled."""

    kind: str
    content: Any = None


class Failure(NamedTuple):
    """Why models were not loaded, and the exit code that this stands for."""

    reason: str
    exit_code: int


def work(
    settings: Settings,
    places: Sequence[Place],
    taken: socket.socket,
    line: Connection,
    parent: int,
) -> None:
    """A worker's whole life. It ends with `parent`, or when it cannot load its models."""
    # The terminal sends both to every process; the first one passes on what they mean.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    reports_errors(_serve)(settings, places, taken, line, parent)


def _serve(
    settings: Settings,
    places: Sequence[Place],
    taken: socket.socket,
    line: Connection,
    parent: int,
) -> None:
    is_serving = False

    def started(service: Service) -> None:
        nonlocal is_serving
        is_serving = True
        reloader = Reloader(service, asyncio.get_running_loop())
        line.send(Message(SERVES, [model.place for model in service.models.values()]))
        arguments = (line, service, reloader)
        threading.Thread(target=_obey, args=arguments, daemon=True).start()

    try:
        from textassay.serving.server import serve_until

        serve_until(lambda: os.getppid() != parent, settings, places, taken, started)
    except Exception as error:
        if is_serving:
            raise
        # The first process says it, once for all workers.
        failure = _failure(error)
        line.send(Message(FAILED, failure))
        raise SystemExit(failure.exit_code) from None


def _obey(line: Connection, service: Service, reloader: Reloader) -> None:
    """Do what the first process asks for, as long as there is one."""
    while True:
        try:
            asked = line.recv()
        except (EOFError, OSError):
            return
        if asked.kind == KNOW:
            service.workers, service.last_reload = asked.content
        elif asked.kind == PREPARE:
            line.send(_prepare(reloader, asked.content))
        elif asked.kind == DISCARD:
            reloader.discard()
        elif asked.kind == SWAP:
            reloader.swap()
            line.send(Message(SWAPPED))
            reloader.free_memory()


def _prepare(reloader: Reloader, places: Sequence[Place]) -> Message:
    try:
        return Message(PREPARED, reloader.prepare(places))
    except Exception as error:  # whatever it is, the models that answer must go on
        return Message(FAILED, _failure(error))


def _failure(error: Exception) -> Failure:
    exit_code = error.exit_code if isinstance(error, TextassayError) else 1
    return Failure(describe_error(error), exit_code)
