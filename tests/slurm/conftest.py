"""A real Slurm cluster of two nodes, where one was started for tests."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.slurm.cluster import OURS, Cluster, make_clone


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The test cluster; never somebody's real one. The gate (TEXTASSAY_CI=1) needs it."""
    reason = _why_not()
    if reason is None:
        return Cluster(Path(os.environ["SLURM_CONF"]))
    if os.environ.get("TEXTASSAY_CI") == "1":
        pytest.fail(f"{reason}, and the gate must use one")
    pytest.skip(f"{reason}: bash .ci/slurm.sh start FOLDER, export SLURM_CONF=FOLDER/slurm.conf")


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a clone."""
    return make_clone(tmp_path_factory.mktemp("clone"))


def _why_not() -> str | None:
    configuration = Path(os.environ.get("SLURM_CONF", "/nowhere"))
    if not configuration.is_file() or OURS not in configuration.read_text(encoding="utf-8"):
        return "SLURM_CONF names no test cluster"
    if shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True).returncode:
        return "the test cluster does not answer"
    return None
