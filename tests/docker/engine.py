"""A Docker Engine as the command line asks it, and a caller who is not root."""

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.commands_for_tests import ALLOW_UNLEARNED

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "containers.md"
# Where the tests run as root, containers are asked for as somebody else, whom no image knows.
SOMEBODY = 4242 if os.geteuid() == 0 else os.geteuid()
# The user of the images.
IMAGE_USER = 1000
# The caller's choice of OpenBLAS's kernels, where there is one: others round otherwise.
KERNELS = ("--env", "OPENBLAS_CORETYPE", "--env", "OPENBLAS_L2_SIZE")
# What tests/conftest.py says of runs of a few steps.
ALLOWED = ("--env", ALLOW_UNLEARNED)
SEALED = ("--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL")


def blocks(page: Path) -> list[str]:
    """The commands of a page, block by block."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def call(
    command: list[str], folder: Path | None = None, user: int | None = None
) -> subprocess.CompletedProcess[str]:
    """The command in a folder that is also its home, with the engine of the tests.

    As another user only where we are root; else we are that user already.
    """
    home = {"HOME": str(folder)} if folder else {}
    root = user if os.geteuid() == 0 else None
    return subprocess.run(
        command, cwd=folder, env={**environment(), **home}, capture_output=True, text=True,
        user=root, group=root, extra_groups=None if root is None else _groups_of_the_engine(),
    )  # fmt: skip


def environment() -> dict[str, str]:
    """The variables of a command that asks the engine of the tests."""
    return {**os.environ, "DOCKER_HOST": address() or ""}


def _groups_of_the_engine() -> list[int]:
    """Whom an engine listens to beside root: the group of its socket."""
    socket = Path((address() or "").removeprefix("unix://"))
    return [socket.stat().st_gid] if socket.is_socket() else []


def address() -> str | None:
    """The engine that the tests may use."""
    return os.environ.get("TEXTASSAY_DOCKER_HOST") or os.environ.get("DOCKER_HOST")


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return call(["docker", *arguments])


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`docker run --rm` to its end."""
    return docker("run", "--rm", *KERNELS, *ALLOWED, *arguments)


def succeed(done: subprocess.CompletedProcess[str]) -> str:
    """What a command printed that must have done its work and complained of nothing."""
    assert done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def wait_until(true: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"after {seconds} s still not so: {what}"
        time.sleep(0.2)


def give(folder: Path, user: int) -> None:
    """Make a folder and all in it a user's own; only root can, and only root needs to."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user, user, follow_symlinks=False)
