"""Several server processes on one address: started, watched, started again, ended together.

All of them answer with one version of each model: the one that the first of them has loaded.
"""

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, NamedTuple

from prometheus_client.multiprocess import mark_process_dead

from textassay.console import counted
from textassay.errors import TextassayError
from textassay.serving.hangups import Hangups
from textassay.serving.logs import log
from textassay.serving.metrics import SHARED
from textassay.serving.places import Place, find_places
from textassay.serving.reloading import carry_out
from textassay.serving.settings import Settings
from textassay.serving.worker import (
    DISCARD,
    FAILED,
    KNOW,
    PREPARE,
    SWAP,
    Failure,
    Message,
    work,
)
from textassay.temporary import temporary_folder
from textassay.threads import usable_cpus

SECONDS_BETWEEN_LOOKS = 0.2
# What a worker may need beyond the time that its requests have, before it is killed.
SECONDS_TO_END = 5.0
# A worker that could not be started is tried again, each time after twice as long.
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0


class Worker(NamedTuple):
    """A process that serves, and the line to it."""

    process: BaseProcess
    line: Connection


class LoadingError(TextassayError):
    """A worker did not load its models."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.exit_code = failure.exit_code


class Workers:
    """The processes of `serve.py --workers N`."""

    def __init__(
        self, settings: Settings, places: Sequence[Place], taken: socket.socket, hangups: Hangups
    ) -> None:
        threads = settings.threads or max(1, usable_cpus() // settings.workers)
        self._settings = replace(settings, threads=threads)
        self._places = tuple(places)
        self._socket = taken
        self._hangups = hangups
        self._workers: list[Worker] = []
        self._ends = False
        self._last_reload: dict[str, Any] | None = None
        self._why_missing: str | None = None
        self._wait = FIRST_WAIT
        self._next_start = 0.0

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until a signal. A worker that dies is replaced, by one with the same models.

        Raises LoadingError where a model cannot be loaded at the start, or when no worker is left.
        """
        # multiprocessing starts them by `python -c`, which looks into the current folder first.
        os.environ["PYTHONSAFEPATH"] = "1"
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._begin_to_end)
        with temporary_folder("metrics") as shared:
            os.environ[SHARED] = str(shared)
            try:
                while len(self._workers) < self._settings.workers and not self._is_ending:
                    self._start()
                if not self._is_ending:
                    on_ready()
                self._watch()
            finally:
                self._end()

    def _begin_to_end(self, number: int, frame: FrameType | None) -> None:
        self._ends = True

    @property
    def _is_ending(self) -> bool:
        return self._ends or self._hangups.terminal_closed

    def _start(self) -> None:
        """Start a worker and wait until it answers. Raises LoadingError."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=work,
            args=(self._settings, self._places, self._socket, theirs, os.getpid()),
            name="worker",
        )
        process.start()
        theirs.close()
        worker = Worker(process, ours)
        self._workers.append(worker)
        try:
            loaded = self._answer_of(worker)
        except LoadingError:
            process.join()
            self._forget(worker)
            raise
        if loaded is not None:
            self._places = tuple(loaded)
            self._tell_all()

    def _answer_of(self, worker: Worker) -> Any:
        """What a worker answers, None where this server ends meanwhile. Raises LoadingError."""
        while not worker.line.poll(SECONDS_BETWEEN_LOOKS):
            if self._is_ending:
                return None
        try:
            kind, content = worker.line.recv()
        except (EOFError, OSError):
            worker.process.join()
            code = worker.process.exitcode
            reason = f"a worker ended with exit code {code} while it loaded the models"
            raise LoadingError(Failure(reason, code if code and code > 0 else 1)) from None
        if kind == FAILED:
            raise LoadingError(content)
        return content

    def _watch(self) -> None:
        while not self._is_ending:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            for worker in [one for one in self._workers if not one.process.is_alive()]:
                log("worker_died", pid=worker.process.pid, exit_code=worker.process.exitcode)
                self._forget(worker)
                self._why_missing = f"a worker ended with exit code {worker.process.exitcode}"
                self._tell_all()
            if self._hangups.reload_asked.is_set():
                self._hangups.reload_asked.clear()
                self._last_reload = carry_out(self._reload)
                self._next_start = 0.0
                self._tell_all()
            missing = self._settings.workers - len(self._workers)
            if missing and time.monotonic() >= self._next_start and not self._is_ending:
                self._replace()

    def _replace(self) -> None:
        """Start a worker for one that died; the others go on where it cannot be."""
        try:
            self._start()
        except LoadingError as error:
            log("worker_not_replaced", error=str(error), workers=len(self._workers))
            if not self._workers:
                reason = f"no worker is left, and another one cannot be started: {error}"
                raise LoadingError(Failure(reason, error.exit_code)) from None
            self._why_missing = str(error)
            self._next_start = time.monotonic() + self._wait
            self._wait = min(2 * self._wait, LONGEST_WAIT)
            self._tell_all()
        else:
            self._wait = FIRST_WAIT

    def _reload(self) -> tuple[Place, ...]:
        """Let all workers change to what lies on the disk now, or none of them."""
        places = find_places(self._settings)
        workers = list(self._workers)
        try:
            for worker in workers:
                _send(worker, Message(PREPARE, places))
                prepared = self._answer_of(worker)
                if prepared is None:
                    raise TextassayError("the server ends")
                places = tuple(prepared)
        except TextassayError:
            for worker in workers:
                _send(worker, Message(DISCARD))
            raise
        self._places = places
        for worker in workers:
            _send(worker, Message(SWAP))
        for worker in workers:
            try:
                self._answer_of(worker)
            except LoadingError:  # it died, and is replaced by one with the new models
                continue
        return places

    def _forget(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.line.close()
        mark_process_dead(worker.process.pid)

    def _tell_all(self) -> None:
        """Let every worker know what `/ready` and `/info` say of all of them."""
        serving, wanted = len(self._workers), self._settings.workers
        reason = self._why_missing if serving < wanted else None
        state = {"wanted": wanted, "serving": serving, "why_missing": reason}
        for worker in self._workers:
            _send(worker, Message(KNOW, (state, self._last_reload)))

    def _end(self) -> None:
        """Let every worker finish what it took; kill those that do not come to an end."""
        self._socket.close()
        processes = [worker.process for worker in self._workers]
        for process in processes:
            process.terminate()
        last_moment = time.monotonic() + self._settings.shutdown_seconds + SECONDS_TO_END
        for process in processes:
            process.join(max(0.0, last_moment - time.monotonic()))
        stuck = [process for process in processes if process.is_alive()]
        for process in stuck:
            process.kill()
            process.join()
        if stuck:
            raise TextassayError(
                f"{counted(len(stuck), 'worker')} did not end within "
                f"{counted(self._settings.shutdown_seconds, 'second')}; what was killed did not "
                "answer its last requests."
            )


def _send(worker: Worker, message: Message) -> None:
    with suppress(OSError):  # it died, which is seen at the next look
        worker.line.send(message)
