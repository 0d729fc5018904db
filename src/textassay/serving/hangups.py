"""SIGHUP: load the models again. But when the terminal of a server is closed, it means the end."""

import os
import signal
import threading
from types import FrameType


class Hangups:
    """Remembers SIGHUP from now on. For the main thread.

    A closed terminal sends it, too; only that one leaves the process without its terminal. Under
    nohup, where it was ignored, it never means the end.
    """

    def __init__(self) -> None:
        self.reload_asked = threading.Event()
        self.terminal_closed = False
        before = signal.signal(signal.SIGHUP, self._remember)
        self._ends_with_terminal = before != signal.SIG_IGN and _has_terminal()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self._ends_with_terminal and not _has_terminal():
            self.terminal_closed = True
        else:
            self.reload_asked.set()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
