"""Runs under DeepSpeed in real processes, started as train.sh starts them, and killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.fork_server import python

from textassay.files import project_root

SCRIPT = project_root() / "scripts" / "train_deepspeed.py"


def start(
    folder: Path,
    processes: int,
    job_file: Path | None = None,
    executable: str = sys.executable,
    **settings: object,
) -> subprocess.Popen[str]:
    """`train_deepspeed.py JOB --output_dir folder --setting value …` in so many processes."""
    flags = [f"--{name}={value}" for name, value in settings.items()]
    command = [executable, "-m", "textassay.training.launch", str(processes), str(SCRIPT)]
    given = [str(job_file)] if job_file else []
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *given, f"--output_dir={folder}", *flags], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def train(
    folder: Path, processes: int = 2, job_file: Path | None = None, **settings: object
) -> str:
    """The whole run, in forked processes; what it said."""
    code, said = outcome(start(folder, processes, job_file, python(), **settings))
    assert code == 0, said
    return said


def outcome(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code, and what was said on standard error."""
    _, said = process.communicate()
    return process.returncode, said


def kill_after(
    folder: Path, checkpoint: str, delay: float, processes: int = 2, **settings: object
) -> None:
    """SIGKILL to all processes `delay` seconds after `checkpoint` became complete."""
    process = start(folder, processes, **settings)
    while process.poll() is None and not (folder / checkpoint / "complete.json").exists():
        time.sleep(0.01)
    time.sleep(delay)
    assert process.poll() is None, "the run ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)  # the launcher; its processes are in other groups
    while _working_in(folder):
        time.sleep(0.02)
    process.communicate()


def _working_in(folder: Path) -> bool:
    """Kill the processes that carry out the run in `folder`; whether there was one."""
    flag, found = f"--output_dir={folder}".encode(), False
    for commandline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if flag in commandline.read_bytes().split(b"\0"):
                os.kill(int(commandline.parent.name), signal.SIGKILL)
                found = True
        except OSError:
            continue
    return found
