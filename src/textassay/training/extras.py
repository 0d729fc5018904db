"""What a job needs beyond the plain installation, installed where the environment is ours."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from textassay import __version__
from textassay.config.schema import Job
from textassay.errors import TextassayError, UsageError
from textassay.files import project_root

# The extra of pyproject.toml, and the package that it brings.
PACKAGES = {"deepspeed": "deepspeed", "quantization": "bitsandbytes"}


def provide_extras(jobs: list[Job]) -> None:
    """Install what the jobs need into the `.venv` that train.sh has made; elsewhere ask for it.

    Raises UsageError with the command, where the environment is somebody else's.
    """
    missing = sorted(
        {extra for job in jobs for extra in wanted_extras(job) if not _is_there(extra)}
    )
    if not missing:
        return
    extras = ",".join(missing)
    root = project_root()
    if (root / ".venv").resolve() != Path(sys.prefix).resolve():
        raise UsageError(
            f"the jobs need the extra {extras}, which {sys.executable} does not have; run: "
            f"{install_line(extras)}"
        )
    script = root / "scripts" / "environment.sh"
    call = 'source "$0"; PYTHON=$1; make_environment "$2" "$3"'
    command = ["bash", "-Eeuo", "pipefail", "-c", call, str(script), sys.executable, str(root)]
    if subprocess.run([*command, extras]).returncode != 0:
        raise TextassayError(f"{extras} could not be installed; the reason stands above.")


def install_line(extras: str) -> str:
    """The command that installs extras, separated by commas, into this Python."""
    root = project_root()
    pip = f"DS_BUILD_OPS=0 {sys.executable} -m pip install"
    if not (root / "pyproject.toml").is_file():  # a wheel is installed, and its checkout is gone
        return f"{pip} 'textassay[{extras}]=={__version__}'"
    return f"{pip} -c {root}/constraints.txt -e '{root}[{extras}]'"


def wanted_extras(job: Job) -> list[str]:
    """The extras of pyproject.toml that a job needs."""
    deepspeed = ["deepspeed"] if job.launcher == "deepspeed" else []
    return deepspeed + (["quantization"] if job.model.load_in_4bit else [])


def _is_there(extra: str) -> bool:
    return importlib.util.find_spec(PACKAGES[extra]) is not None
