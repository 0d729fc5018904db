"""Folders for a while, in the machine's temporary directory: nobody else's, and none left for long.

Everybody may write to that directory, so a name that can be guessed may be taken already, by
somebody who wants to read what we write or to give us files of theirs. And a process that is killed
removes nothing.
"""

import atexit
import fcntl
import functools
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# A folder that has just been made is not locked yet.
SECONDS_UNTIL_LOCKED = 60
# The bits of a mode that let others than the owner in, and those that let them write.
FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO
WRITTEN_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
# What lies in a cache is called by a hash of what it was made from.
HASHED = re.compile(r"[0-9a-f]{32,64}(\.\w+)?")


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


def make_private(folder: Path, holds_folders: bool = False) -> bool:
    """Make a folder that this user alone can enter, with those above it; whether it is one now.

    One of this user's that is open is closed. Where others could write to it, what is in it may be
    theirs, or renamed: what is called by a hash is removed, and with anything else there it is not
    to be used. `holds_folders` says that it holds nothing but folders that are asked about
    themselves. False also where it is another user's, or cannot be made.
    """
    try:
        _make_with_parents(folder)
        found = folder.stat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return False
        if found.st_mode & FOR_OTHERS:
            folder.chmod(0o700)
            if found.st_mode & WRITTEN_BY_OTHERS and not holds_folders:
                _remove_hashed(folder)
                return not any(folder.iterdir())
        return not folder.stat().st_mode & FOR_OTHERS
    except OSError:
        return False


def is_safe_above(folder: Path) -> bool:
    """Whether nobody but this user and root can take away a folder that is made in this one."""
    found = folder.stat()
    protected = found.st_mode & stat.S_ISVTX or not found.st_mode & WRITTEN_BY_OTHERS
    return found.st_uid in (0, os.geteuid()) and bool(protected)


def close_to_others(path: Path) -> None:
    """Take a file, or a folder with all that is in it, from everybody but this user."""
    for inner in (path, *path.rglob("*")):
        if not inner.is_symlink():
            inner.chmod(0o700 if inner.is_dir() else 0o600)


def private_folder() -> Path:
    """This user's folder in the temporary directory: `textassay-<uid>`, closed to everybody else.

    Where something else has that name already, this process gets a folder of its own.
    """
    folder = Path(tempfile.gettempdir()) / f"textassay-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    is_closed = not found.st_mode & FOR_OTHERS
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


def _make_with_parents(folder: Path) -> None:
    """`mkdir -p`, whose parents are by the umask, with all that is made closed to others."""
    if not folder.parent.exists():
        _make_with_parents(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)


def _remove_hashed(folder: Path) -> None:
    for path in folder.iterdir():
        if not HASHED.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


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
