"""Locks on directories: one process at a time writes to a run, on any machine that sees it.

The kernel's file lock settles which of several processes gets it. What it cannot do on every file
system is tell other machines, or outlive them in time: so the lock file also says who holds it, and
its holder touches it for as long as it lives.
"""

import fcntl
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from textassay.errors import TextassayError, UsageError
from textassay.files import parse_json

LOCK = ".lock"
SECONDS_BETWEEN_TOUCHES = 10.0
# A holder on another machine that has not touched its lock for so long is gone.
SECONDS_UNTIL_STALE = 120.0
# Worker processes of a holder that was killed end a little later than it does.
SECONDS_FOR_WORKERS = 8.0
SECONDS_BETWEEN_ATTEMPTS = 0.2

Holder = dict[str, Any]
# The lock files of this process, and those of them that another process has taken over.
_held: set[Path] = set()
_lost: set[Path] = set()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, which must exist, while the block runs.

    Raises UsageError that names the holder if another live process has it. A block inside a block
    of the same process is let through.
    """
    path = folder.resolve() / LOCK
    if path in _held:
        yield
        return
    descriptor = _acquire(path, folder)
    _held.add(path)
    over = threading.Event()
    toucher = threading.Thread(target=_keep_touching, args=(path, descriptor, over), daemon=True)
    toucher.start()
    try:
        yield
    finally:
        over.set()
        toucher.join()
        if _is_same_file(path, descriptor) and path not in _lost:
            path.unlink()
        os.close(descriptor)
        _held.discard(path)
        _lost.discard(path)


def refuse_if_locked(folder: Path) -> None:
    """Raise UsageError if a live process other than this one holds the lock of `folder`."""
    path = folder.resolve() / LOCK
    if path in _held:
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        holder = _read(descriptor)
        if holder and _is_alive(holder, _age(path, descriptor)):
            raise _refusal(folder, holder, _age(path, descriptor))
    finally:
        os.close(descriptor)


def refuse_if_lost() -> None:
    """Raise TextassayError if another process has taken over a lock of this one.

    That happens to a process that stood still for longer than a lock stays fresh, such as a
    suspended job: it must not write any more.
    """
    for path in _lost:
        raise TextassayError(
            f"{path.parent}: was taken over by another process while this one stood still; it ends "
            "without writing anything more."
        )


def _acquire(path: Path, folder: Path) -> int:
    """A descriptor of the lock file, which names this process as its holder."""
    last_attempt = time.monotonic() + SECONDS_FOR_WORKERS
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            answer = _flock(descriptor)
            holder = _read(descriptor)
            age = _age(path, descriptor)
            if holder and _is_alive(holder, age):
                raise _refusal(folder, holder, age)
            if answer is False and time.monotonic() > last_attempt:
                if holder is None or _is_here(holder):
                    raise _refusal(folder, holder, age)
                path.unlink(missing_ok=True)  # of a machine that is gone, kept by a lock server
            elif answer is not False and _take(path, descriptor, is_settled=answer is True):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(SECONDS_BETWEEN_ATTEMPTS)


def _flock(descriptor: int) -> bool | None:
    """Whether this process has the kernel's lock; None on a file system without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _take(path: Path, descriptor: int, is_settled: bool) -> bool:
    """Write this process into the lock file; False if the file was replaced meanwhile.

    Without the kernel's lock two processes may write at the same moment: the last one has it.
    """
    if not _is_same_file(path, descriptor):
        return False
    content = json.dumps(_this_process()).encode()
    try:
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
        os.fsync(descriptor)
    except OSError as error:  # a full disk, which names no file
        path.unlink(missing_ok=True)
        error.filename = str(path.parent)
        raise
    if is_settled:
        return True
    time.sleep(5 * SECONDS_BETWEEN_ATTEMPTS)
    return _is_same_file(path, descriptor) and os.pread(descriptor, 4096, 0) == content


def _this_process() -> Holder:
    """What tells this process from every other one, on this machine or another."""
    environ = os.environ
    element = environ.get("SLURM_ARRAY_TASK_ID", "")
    return {
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        **_place(),
        "slurm_job": f"{environ['SLURM_JOB_ID']}/{element}" if "SLURM_JOB_ID" in environ else None,
        "slurm_restarts": int(environ.get("SLURM_RESTART_COUNT") or 0),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _place() -> dict[str, str]:
    """Where process ids mean the same: one machine since it was started, and one container."""
    boot, namespace = "", ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return {"host": socket.gethostname(), "boot": boot, "pid_namespace": namespace}


def _started(pid: int) -> str | None:
    """When a process began, in clock ticks since the machine did; None if there is none any more.

    Process ids are used again; with this they are not mistaken. See proc(5), field 22.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _is_here(holder: Holder) -> bool:
    return all(holder.get(name) == value for name, value in _place().items())


def _is_alive(holder: Holder, age: float) -> bool:
    """Whether the holder of a lock that was touched `age` seconds ago still runs."""
    if _is_here(holder):
        return holder["started"] is not None and _started(holder["pid"]) == holder["started"]
    ours = _this_process()
    same_job = ours["slurm_job"] and ours["slurm_job"] == holder.get("slurm_job")
    if same_job and ours["slurm_restarts"] > holder.get("slurm_restarts", 0):
        return False  # Slurm starts a job again only after its processes have ended
    return age < SECONDS_UNTIL_STALE


def _read(descriptor: int) -> Holder | None:
    """Who holds a lock; None if nobody does, or the file is being written."""
    try:
        holder = parse_json(os.pread(descriptor, 4096, 0))
    except ValueError:
        return None
    return holder if isinstance(holder, dict) and {"pid", "started"} <= set(holder) else None


def _age(path: Path, descriptor: int) -> float:
    """Seconds since a lock was touched, by the clock of the file system that it lies on."""
    try:
        with tempfile.TemporaryFile(dir=path.parent) as now:
            return os.fstat(now.fileno()).st_mtime - os.fstat(descriptor).st_mtime
    except OSError:
        return time.time() - os.fstat(descriptor).st_mtime


def _refusal(folder: Path, holder: Holder | None, age: float) -> UsageError:
    if holder is None:
        return UsageError(f"{folder}: is in use by another process; wait for it, or end it.")
    who = f"process {holder['pid']} on {holder.get('host')} since {holder.get('since')}"
    advice = "wait for it, end it, or name another --output_dir"
    if not _is_here(holder):
        left = max(1, round(SECONDS_UNTIL_STALE - age))
        advice += f"; if that machine is gone, the same command works in {left} s"
    return UsageError(f"{folder}: is in use by {who}, and two would mix up their files; {advice}.")


def _keep_touching(path: Path, descriptor: int, over: threading.Event) -> None:
    """Show that this process lives, and notice when the lock was taken over."""
    while not over.wait(SECONDS_BETWEEN_TOUCHES):
        with suppress(OSError):
            holder = _read(descriptor) or {}
            is_ours = _is_here(holder) and holder.get("pid") == os.getpid()
            if not _is_same_file(path, descriptor) or not is_ours:
                _lost.add(path)
                return
            os.utime(descriptor)


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False
