"""The parts of a file that is being written, in a hidden folder beside it until it is whole.

A part is there as a whole or not at all, so whoever begins again goes on behind the last one.
"""

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from textassay.console import DISK_ERRORS, say, warn
from textassay.errors import UsageError
from textassay.files import read_json, replacing, write_json
from textassay.temporary import make_private

STATE = "state.json"
LOCK = "lock"
WHOLE = "whole"


@dataclass(frozen=True)
class Parts:
    """The parts of `output`, ours alone."""

    output: Path
    folder: Path

    def part(self, number: int) -> Path:
        """Where a part is, or will be."""
        return self.folder / f"{number:07d}"

    def facts(self, number: int) -> Any:
        """What is known of a part, or None where it is not there."""
        return read_json(_facts(self.part(number))) if self.part(number).exists() else None

    @contextmanager
    def writing(self, number: int, facts: Any) -> Iterator[Path]:
        """A path to write a part to; it counts, with its facts, when the block is done."""
        write_json(_facts(self.part(number)), facts)
        with replacing(self.part(number)) as scratch:
            yield scratch

    @contextmanager
    def becoming_output(self) -> Iterator[Path]:
        """A path to write all of it to; it is the output when the block is done.

        It lies in the folder of the parts: what a kill leaves of it goes with them.
        """
        scratch = self.folder / WHOLE
        yield scratch
        scratch.replace(self.output)


@contextmanager
def parts_of(output: Path, fingerprint: dict[str, str]) -> Iterator[Parts]:
    """The parts of `output`; what is there stays if the block is cut short, and goes at its end.

    `fingerprint` says what the parts depend on: those of another one are thrown away, which is
    said. UsageError where another process is at work on them.
    """
    folder = output.with_name(f".{output.name}.parts")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _make_own(folder, output)
        with _open_lock(folder / LOCK) as lock:
            _lock(lock, output)
            with _kept_if_cut_short(folder):
                _throw_away_others(folder, output, fingerprint)
                yield Parts(output, folder)
    except KeyboardInterrupt:
        say(f"{output}: the same command goes on from here")
        raise
    except OSError as error:
        below = str(error.filename or "").startswith(str(folder))
        if error.errno in DISK_ERRORS or below or not folder.is_dir():
            error.filename = str(output)  # nobody knows the hidden folder
        raise


@contextmanager
def _kept_if_cut_short(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if not any(folder.glob("[0-9]*")):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder)


def _make_own(folder: Path, output: Path) -> None:
    """Make the folder, for this user alone. UsageError where somebody else, or a link, has it."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not is_ours or not make_private(folder):
        raise UsageError(
            f"{output}: its parts would be kept in {folder}, which is a link or another user's, or "
            "cannot be closed to other users; remove it, or name another --output."
        )


def _open_lock(path: Path) -> IO[bytes]:
    """The lock's file, made if it is missing; what a link points to is left alone."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o600), "r+b")


def _lock(lock: Any, output: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"{output}: is being written by another process; wait for it.") from None


def _throw_away_others(folder: Path, output: Path, fingerprint: dict[str, str]) -> None:
    state = folder / STATE
    if state.is_file():
        before = read_json(state)
        changed = [name for name, value in fingerprint.items() if before.get(name) != value]
        if not changed:
            return
        warn(f"{output}: starts over, for it was begun with another {' and '.join(changed)}")
    for path in folder.iterdir():
        if path.name != LOCK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_json(state, fingerprint)


def _facts(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")
