"""The Docker Engine that tests may use, both images, and a run that was trained in one."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.docker.engine import (
    GUIDE,
    ROOT,
    SOMEBODY,
    address,
    blocks,
    call,
    docker,
    give,
    succeed,
)


@pytest.fixture(scope="session")
def engine() -> str:
    """Where it answers; the gate (TEXTASSAY_CI=1) needs one."""
    reason = _why_not()
    if reason is None:
        return str(address())
    if os.environ.get("TEXTASSAY_CI") == "1":
        pytest.fail(f"{reason}, and the gate must use one")
    pytest.skip(f"{reason}; it is found through TEXTASSAY_DOCKER_HOST or DOCKER_HOST")


def _why_not() -> str | None:
    if address() is None:
        return "no Docker Engine is named"
    if shutil.which("docker") is None or docker("info").returncode != 0:
        return "no Docker Engine answers"
    return None


@pytest.fixture(scope="session")
def cpu_image(engine: str) -> str:
    return _image("cpu")


@pytest.fixture(scope="session")
def cuda_image(engine: str) -> str:
    return _image("cuda")


def _image(kind: str) -> str:
    """The image that the environment names, else one that is built of this tree."""
    named = os.environ.get(f"TEXTASSAY_{kind.upper()}_IMAGE")
    if not named:
        succeed(call(["bash", str(ROOT / "docker" / "build.sh"), kind]))
    return named or f"textassay:{kind}"


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """An empty folder of the caller's, where others may look in (pytest's own are root's alone)."""
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        place.chmod(0o755)
        give(place, SOMEBODY)
        yield place


@pytest.fixture(scope="session")
def guide(cpu_image: str, folder: Path) -> Callable[[str], str]:
    """`guide("train.sh")`: run the one block of docs/containers.md that has it, as the caller."""

    def run_block(having: str) -> str:
        (block,) = [block for block in blocks(GUIDE) if having in block]
        return succeed(call(["bash", "-ec", block], folder, SOMEBODY))

    return run_block


@pytest.fixture(scope="session")
def trained(guide: Callable[[str], str], folder: Path) -> tuple[Path, str]:
    """The run of the guide's first training, and what was printed."""
    said = guide("train.sh --seeds 123")
    return folder / "runs" / "quickstart" / "seed-123", said
