"""How a process that trained with others ends."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ending_at_once() -> Iterator[None]:
    """End the process with the block's exit code and without the interpreter's tidying up.

    A thread of gloo that outlives the interpreter aborts the process now and then, which would
    turn a good end into a bad one.
    """
    code = 0
    try:
        yield
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
