"""The log: one JSON object a line on standard error."""

import json
import logging
import sys
import time
from contextlib import suppress
from typing import Any

from textassay.masking import mask


def log(event: str, **facts: Any) -> None:
    """Write one line. `event` says what happened; facts are whatever JSON can hold."""
    now = time.time()
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    line = {"time": f"{moment}.{int(now % 1 * 1000):03d}Z", "event": event, **facts}
    with suppress(OSError):  # a log that nobody reads any more stops no answer
        sys.stderr.write(json.dumps(line, default=str) + "\n")
        sys.stderr.flush()


class JsonHandler(logging.Handler):
    """Lines of libraries, the server's own among them, in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        facts = {"level": record.levelname.lower(), "message": mask(record.getMessage())}
        if record.exc_info and record.exc_info[1]:
            error = record.exc_info[1]
            facts["error"] = mask(f"{type(error).__name__}: {error}")
        log("server", **facts)


def log_libraries() -> None:
    """Let warnings and errors of libraries appear in the log."""
    logging.basicConfig(level=logging.WARNING, handlers=[JsonHandler()], force=True)
