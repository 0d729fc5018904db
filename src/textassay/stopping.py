"""A signal that asks to stop is remembered, and work ends where nothing is lost by it.

Slurm sends one before it takes a job's nodes away, Docker and systemd before they end a process.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from textassay.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
SECONDS_BETWEEN_LOOKS = 0.2
# Tells a process which other one started it, which it must not outlive.
STARTED_BY = "TEXTASSAY_STARTED_BY"
SECONDS_BETWEEN_LOOKS_AT_PARENT = 1.0
# In the order of their coming; the second one changes nothing.
_received: list[str] = []


@contextmanager
def heeding_signals() -> Iterator[None]:
    """In the block SIGTERM and SIGUSR1 are remembered and do not end the process."""
    before = {number: signal.signal(number, _remember) for number in SIGNALS}
    over = threading.Event()
    _stop_with_parent(over)
    try:
        yield
    finally:
        over.set()
        for number, handler in before.items():
            signal.signal(number, handler)
        _received.clear()


def started_by_this() -> dict[str, str]:
    """The environment for a process that must not outlive this one."""
    return {**os.environ, STARTED_BY: str(os.getpid())}


def _stop_with_parent(over: threading.Event) -> None:
    """Ask this process to stop when the one that started it is gone, however that ended.

    Otherwise it would train on when its parent was killed, and a repeat would start a second one.
    """
    parent = os.environ.pop(STARTED_BY, "")
    if parent.isdigit() and _is_gone(int(parent)):
        os.kill(os.getpid(), signal.SIGTERM)
    elif parent == str(os.getppid()):
        watcher = threading.Thread(target=_watch, args=(int(parent), over), daemon=True)
        watcher.start()


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _watch(parent: int, over: threading.Event) -> None:
    while not over.wait(SECONDS_BETWEEN_LOOKS_AT_PARENT):
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
            return


@contextmanager
def undisturbed() -> Iterator[None]:
    """In the block both signals are ignored: for the last word of a process.

    Slurm tells all processes of a step, and those that started others tell them once more.
    """
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def asked_to_stop() -> bool:
    """Whether one of the signals has come."""
    return bool(_received)


def stop_if_asked() -> None:
    """Stopped, if one of the signals has come: for places where nothing would be lost."""
    if asked_to_stop():
        raise Stopped(f"stopped by {which_signal()}; the same command goes on from here.")


def which_signal() -> str:
    """The name of the signal that came first; of a signal, where only another process has it."""
    return _received[0] if _received else "a signal"


def run_passing_on(command: Sequence[str]) -> int:
    """The exit code of a command in a process of its own, which is told to stop when we are."""
    with subprocess.Popen(command, env=started_by_this()) as process:
        try:
            return wait_passing_on(process)
        except BaseException:
            process.kill()
            raise


def wait_passing_on(process: subprocess.Popen[Any]) -> int:
    """The exit code of another process, which is told as well once we are asked to stop.

    75 where the signal ended it at once: before it heeded signals it had nothing to lose.
    """
    told = False
    while True:
        try:
            return settled(process.wait(SECONDS_BETWEEN_LOOKS))
        except subprocess.TimeoutExpired:
            if asked_to_stop() and not told:
                process.send_signal(signal.SIGTERM)
                told = True


def settled(code: int) -> int:
    """The exit code that another process stands for, once we were asked to stop: see above."""
    by_signal = {spelt for number in SIGNALS for spelt in (-number, 128 + number)}
    return Stopped.exit_code if asked_to_stop() and code in by_signal else code


def _remember(number: int, _: Any) -> None:
    _received.append(signal.Signals(number).name)
