"""Several server processes on one address: started, watched, started again, ended together."""

import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from textassay.console import reports_errors
from textassay.errors import TextassayError
from textassay.serving.logs import log
from textassay.serving.metrics import SHARED
from textassay.serving.settings import Settings
from textassay.threads import usable_cpus

SECONDS_BETWEEN_LOOKS = 0.2
# What a worker may need beyond the time that its requests have, before it is killed.
SECONDS_TO_END = 5.0


class Workers:
    """The processes of `serve.py --workers N`."""

    def __init__(self, settings: Settings, taken: socket.socket) -> None:
        threads = settings.threads or max(1, usable_cpus() // settings.workers)
        self._settings = replace(settings, threads=threads)
        self._socket = taken
        self._processes: list[BaseProcess] = []
        self._ends = False

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until a signal. A worker that dies is replaced.

        Raises SystemExit with a worker's exit code where one ends before it answers; it said why.
        """
        shared = tempfile.mkdtemp(prefix="textassay-metrics-")
        os.environ[SHARED] = shared
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._begin_to_end)
        try:
            # The first one alone: what stops it would stop all of them, and is said once.
            self._start()
            for _ in range(1, self._settings.workers):
                self._start()
            if not self._ends:
                on_ready()
            self._watch()
        finally:
            self._end()
            shutil.rmtree(shared, ignore_errors=True)

    def _begin_to_end(self, number: int, frame: FrameType | None) -> None:
        self._ends = True

    def _start(self) -> None:
        """Start a worker and wait until it answers."""
        if self._ends:
            return
        context = multiprocessing.get_context("spawn")
        told, tells = context.Pipe(duplex=False)
        process = context.Process(
            target=_work, args=(self._settings, self._socket, tells, os.getpid()), name="worker"
        )
        process.start()
        tells.close()
        self._processes.append(process)
        while not told.poll(SECONDS_BETWEEN_LOOKS) and not self._ends:
            pass
        if self._ends:
            return
        try:
            told.recv()
        except EOFError:
            process.join()
            raise SystemExit(process.exitcode or 1) from None
        finally:
            told.close()

    def _watch(self) -> None:
        while not self._ends:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            for process in self._processes:
                if not process.is_alive() and not self._ends:
                    log("worker_died", pid=process.pid, exit_code=process.exitcode)
                    self._forget(process)
                    self._start()
                    break

    def _forget(self, process: BaseProcess) -> None:
        self._processes.remove(process)
        mark_process_dead(process.pid)

    def _end(self) -> None:
        """Let every worker finish what it took; kill those that do not come to an end."""
        self._socket.close()
        for process in self._processes:
            process.terminate()
        last_moment = time.monotonic() + self._settings.shutdown_seconds + SECONDS_TO_END
        for process in self._processes:
            process.join(max(0.0, last_moment - time.monotonic()))
        stuck = [process for process in self._processes if process.is_alive()]
        for process in stuck:
            process.kill()
            process.join()
        if stuck:
            raise TextassayError(
                f"{len(stuck)} workers did not end within {self._settings.shutdown_seconds:g} "
                "seconds and were killed; their last requests were not answered."
            )


def _work(settings: Settings, taken: socket.socket, tells: Connection, parent: int) -> None:
    """A worker's whole life."""
    # The terminal sends it to every process; the parent passes on what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reports_errors(_serve)(settings, taken, tells, parent)


def _serve(settings: Settings, taken: socket.socket, tells: Connection, parent: int) -> None:
    from textassay.serving.server import serve

    def is_ready() -> None:
        tells.send(True)
        tells.close()

    serve(settings, taken, is_ready, parent)
