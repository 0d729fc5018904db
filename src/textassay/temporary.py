"""Folders for a while, in the machine's temporary directory: nobody else's, and none left for long.

Everybody may write to that directory, so a name that can be guessed may be taken already, by
somebody who wants to read what we write or to give us files of theirs. And a process that is killed
removes nothing.
"""

import atexit
import fcntl
import functools
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# A folder that has just been made is not locked yet.
SECONDS_UNTIL_LOCKED = 60


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """A new folder, removed when the block ends.

    One of the same purpose whose process was killed is removed when the next one is made: each is
    locked for as long as its process lives.
    """
    above = private_folder()
    _remove_abandoned(above, purpose)
    folder = Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=above))
    lock = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def private_folder() -> Path:
    """This user's folder in the temporary directory: `textassay-<uid>`, closed to everybody else.

    Where something else has that name already, this process gets a folder of its own.
    """
    folder = Path(tempfile.gettempdir()) / f"textassay-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    is_closed = not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and is_closed:
        return folder
    return _folder_of_this_process()


@functools.cache
def _folder_of_this_process() -> Path:
    folder = tempfile.mkdtemp(prefix="textassay-")
    atexit.register(_remove_in, os.getpid(), folder)
    return Path(folder)


def _remove_in(process: int, folder: str) -> None:
    """Remove a folder, but not at the end of a process that was forked from its owner."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(above: Path, purpose: str) -> None:
    for folder in above.glob(f"{purpose}-*"):
        with suppress(OSError):  # it goes, or is in use
            if time.time() - folder.stat().st_mtime < SECONDS_UNTIL_LOCKED:
                continue
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
