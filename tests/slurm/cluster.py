"""The test cluster: jobs are submitted as a user would, and nodes can be killed."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
from tests.commands_for_tests import ALLOW_UNLEARNED
from tests.fork_server import python

from textassay.files import project_root

OURS = "ClusterName=textassay"  # as .ci/slurm.sh calls it
SECONDS_TO_WAIT = 300
LOOKS_A_SECOND = 10
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL"}


class Cluster:
    """The cluster of SLURM_CONF, which .ci/slurm.sh has started."""

    def __init__(self, configuration: Path) -> None:
        self.folder = configuration.parent

    def shell(
        self, folder: Path, command: str, extra: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command line in `folder`, with nothing of this shell but what Slurm needs.

        The Python of jobs is forked; `extra` may name the real one.
        """
        variables = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "HF_HUB_OFFLINE": "1",
            "SLURM_CONF": str(self.folder / "slurm.conf"), "TEXTASSAY_PYTHON": python(),
            "OMP_NUM_THREADS": "1", ALLOW_UNLEARNED: "true", **(extra or {}),
        }  # fmt: skip
        return subprocess.run(
            ["bash", "-ec", command], cwd=folder, env=variables, capture_output=True, text=True,
            timeout=SECONDS_TO_WAIT,
        )  # fmt: skip

    def submit(self, folder: Path, command: str, extra: Mapping[str, str] | None = None) -> str:
        """The id of the job that an sbatch line submits."""
        done = self.shell(folder, f"sbatch --parsable {command}", extra)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def fact(self, job: str, name: str) -> str:
        """What `scontrol show job` says, such as JobState or ExitCode."""
        said = self.shell(self.folder, f"scontrol show job -o {job}").stdout
        found = re.search(rf"\b{name}=(\S+)", said)
        assert found, f"{name} of job {job}: {said}"
        return found[1]

    def wait_for(self, job: str) -> str:
        """The state in which a job is over."""
        until(lambda: self.fact(job, "JobState") in OVER, f"the end of job {job}")
        return self.fact(job, "JobState")

    def kill_node(self, node: str, job: str) -> None:
        """SIGKILL for a node's daemon and for all that it does for a job."""
        daemon = psutil.Process(int((self.folder / f"{node}.pid").read_text()))
        steps = [process for process in psutil.process_iter(["cmdline"])
                 if f"slurmstepd: [{job}." in " ".join(process.info["cmdline"] or [])]  # fmt: skip
        assert steps, f"job {job} does nothing on {node}"
        doomed = [daemon, *steps, *(c for step in steps for c in step.children(recursive=True))]
        for process in doomed:
            process.kill()

    def batch_scripts(self) -> list[str]:
        """The command lines of sbatch files that run, or have left something running."""
        lines = (" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"]))
        return [line for line in lines if f"{self.folder}/spool." in line and "script" in line]

    def start_node(self, node: str) -> None:
        """The daemon that was killed, as when a node has been booted again."""
        script = project_root() / ".ci" / "slurm.sh"
        subprocess.run(["bash", script, "node", self.folder, node], check=True)


def until(is_so: Callable[[], bool], what: str) -> None:
    """Wait for what is awaited; it has to come."""
    end = time.monotonic() + SECONDS_TO_WAIT
    while not is_so():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(1 / LOOKS_A_SECOND)


def make_clone(folder: Path) -> Path:
    """A folder like a clone, in which a user may write: its slurm/ is a copy."""
    for name in ("scripts", "jobs", "data", "src", "train.sh", "eval.sh", "constraints.txt",
                 "pyproject.toml"):  # fmt: skip
        (folder / name).symlink_to(project_root() / name)
    (folder / "slurm").mkdir()
    for path in (project_root() / "slurm").iterdir():
        if path.name != "site.env":  # somebody's own
            (folder / "slurm" / path.name).write_bytes(path.read_bytes())
    return folder
