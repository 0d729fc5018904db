"""How many threads compute, and how they wait for each other: settled before torch is loaded.

The threads of OpenMP spin while they wait. Alone on a machine that makes a training step a quarter
faster; beside another busy process it makes one six times slower, since the CPU that a thread spins
on is the one that the awaited thread needs (docs/decisions/0014-threads.md has the figures).
So a process that starts beside others lets its threads sleep. Their number stays: the last bit of a
sum depends on it, and a run that goes on elsewhere must compute the same numbers.
"""

import math
import os
import re
import statistics
import time
from collections.abc import MutableMapping
from pathlib import Path

COUNT, WAITING = "OMP_NUM_THREADS", "OMP_WAIT_POLICY"
# Of a user's own choices these say how to wait; with one of them set, nothing is added.
WAITING_CHOICES = (WAITING, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
# Names of variables that this module set and why, for processes that inherit them.
OURS, REASON = "TEXTASSAY_THREADS_SET", "TEXTASSAY_THREADS_REASON"
LOOKS, SECONDS_BETWEEN_LOOKS = 3, 0.003
# How a command starts that keeps all CPUs busy once it has begun: as script, module, or by name.
# A look may meet one while it reads a file.
COMPUTING = re.compile(
    rb"(?:\S*/|-m textassay\.commands\.|\S*/textassay )"
    rb"(?:train[_-](?:full|lora|deepspeed)|distill|prune)(?:\.py)?(?: |$)"
)
PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def settle_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set OpenMP's variables for this process by what else the machine does now.

    A process of a group that trains together keeps what the one that started it has settled; any
    other looks anew. What the user set is obeyed. Nothing happens where /proc does not say how many
    processes run. Call it before torch is imported: OpenMP reads the variables when it is loaded.
    """
    if "RANK" in environment:
        return
    for name in (*environment.pop(OURS, "").split(), REASON):
        environment.pop(name, None)
    settled = _settings(environment)
    if settled:
        environment.update(settled)
        environment[OURS] = " ".join(name for name in settled if name != REASON)


def share_threads(processes: int, environment: MutableMapping[str, str] = os.environ) -> None:
    """Give each of so many processes that start together its share of the CPUs.

    A number that the user has set is each one's; one that `settle_threads` set is shared.
    """
    if COUNT in environment.get(OURS, "").split() or COUNT not in environment:
        environment[COUNT] = str(max(1, usable_cpus() // processes))


def _settings(environment: MutableMapping[str, str]) -> dict[str, str]:
    """The variables to set, with the reason under REASON; none where OpenMP's own are right."""
    settings = {}
    cpus = os.cpu_count() or 1
    threads = usable_cpus()
    if COUNT in environment:
        threads = _first_number(environment[COUNT]) or threads
    elif threads < _allowed_cpus():
        settings[COUNT] = str(threads)
        settings[REASON] = f"the control group's share of {_allowed_cpus()} CPUs"
    others = max(_running_elsewhere(), _other_runs())
    chosen = any(name in environment for name in WAITING_CHOICES)
    if threads > 1 and others and others + threads > cpus and not chosen:
        settings[WAITING] = "PASSIVE"
        what = f"{others} busy process{'es' if others > 1 else ''}"
        settings[REASON] = f"sleeping while they wait, beside {what} on {cpus} CPUs"
    return settings


def threads_reason() -> str:
    """Why this process's threads are not as OpenMP sets them up; empty where they are."""
    return os.environ.get(REASON, "")


def usable_cpus() -> int:
    """The CPUs that this process may use: those it is allowed on, or its control group's quota."""
    quota = _quota()
    allowed = _allowed_cpus()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _allowed_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(proc: Path = PROC, cgroups: Path = CGROUPS) -> float | None:
    """The smallest quota, in CPUs, of this process's control group and those above it."""
    quotas = []
    try:
        groups = [line.split(":", 2) for line in (proc / "self/cgroup").read_text().splitlines()]
    except OSError:
        return None
    for _, controllers, name in groups:
        if controllers in ("", "cpu", "cpu,cpuacct"):
            above = cgroups / controllers
            folder = above / name.lstrip("/")
            quotas += [_quota_of(place) for place in (folder, *folder.parents)
                       if place.is_relative_to(above)]  # fmt: skip
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_of(folder: Path) -> float | None:
    """CPUs, by cgroup v2's cpu.max ("150000 100000") or v1's two files; None for no limit."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _running_elsewhere() -> int:
    """How many threads of other processes run or wait for a CPU now: the median of a few looks.

    The load average would not do: a minute later it still shows what this user's last run did.
    """
    looks = []
    for look in range(LOOKS):
        if look:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        try:
            running = (PROC / "loadavg").read_text().split()[3].partition("/")[0]
            looks.append(int(running) - 1)  # this thread is one of them
        except (OSError, ValueError, IndexError):
            return 0
    return max(0, round(statistics.median(looks)))


def _other_runs() -> int:
    """How many training processes there are besides this one and those that wait for it."""
    own = {os.getpid(), *_ancestors()}
    runs = 0
    for folder in PROC.glob("[0-9]*"):
        try:
            _, *arguments = (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        except OSError:
            continue
        if int(folder.name) not in own:
            command = b" ".join(arguments[:4]).removeprefix(b"-P ")
            runs += COMPUTING.match(command) is not None
    return runs


def _ancestors() -> list[int]:
    pids, pid = [], os.getppid()
    while pid > 1:
        pids.append(pid)
        try:
            pid = int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return pids


def _first_number(value: str) -> int | None:
    """OMP_NUM_THREADS may list a number for each level of nesting."""
    first = value.partition(",")[0].strip()
    return int(first) if first.isdigit() else None
