"""The wheel and the sdist, installed where no checkout is: they bring all that runs need."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.commands_for_tests import ALLOW_UNLEARNED

from textassay import __version__
from textassay.files import project_root

ROOT = project_root()
BUILD = "import sys; from hatchling import build; print(build.build_{}(sys.argv[1]))"
# The small folders of the environment decide what a command finds; PATH only helps bash.
PLAIN = {"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

pytestmark = pytest.mark.slow


def built(kind: str, folder: Path) -> Path:
    """The file that hatchling builds of this checkout: a `wheel` or an `sdist`."""
    command = [sys.executable, "-c", BUILD.format(kind), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the package from this kind of file, and the libraries of this one."""
    folder = tmp_path_factory.mktemp(request.param)
    venv.create(folder / "venv", with_pip=False)
    home = sysconfig.get_path("purelib", vars={"base": str(folder / "venv")})
    # Without its .pth files, one of which names this checkout.
    Path(home, "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, built(request.param, folder)], check=True)
    return folder / "venv"


@pytest.fixture
def textassay(installed: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`textassay("train", …)`: the command of that environment, in an empty folder."""

    def call(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**PLAIN, ALLOW_UNLEARNED: "true", "HOME": str(tmp_path / "home"), **more}
        return subprocess.run(
            [installed / "bin" / "textassay", *arguments], cwd=tmp_path, env=environment,
            capture_output=True, text=True,
        )  # fmt: skip

    return call


def test_the_package_is_that_of_the_file(
    installed: Path, textassay: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert textassay("--version").stdout == f"textassay, version {__version__}\n"
    code = "import textassay.files as f; print(f.__file__); print(f.project_root())"
    command = [installed / "bin" / "python", "-c", code]
    done = subprocess.run(command, env=PLAIN, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert all(Path(line).is_relative_to(installed) for line in said), said
    home = Path(said[1])
    for folder in ("jobs", "data/catalog", "data/samples", "slurm"):
        names = {path.name for path in (ROOT / folder).iterdir() if path.name != "site.env"}
        assert {path.name for path in (home / folder).iterdir()} == names


@pytest.mark.parametrize("installed", ["wheel"], indirect=True)
def test_a_stranger_trains_evaluates_and_asks(
    textassay: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    few = ("--seeds", "0", "--max_steps", "2", "--max_samples", "60", "--bootstrap_samples", "100")
    trained = textassay("train", *few)
    assert trained.returncode == 0, trained.stderr
    run = tmp_path / "runs" / "quickstart" / "seed-0"
    assert (run / "report.html").is_file() and (run / "finished.json").is_file()
    answer = textassay("predict", str(run), "--text", "I would buy it again")
    assert answer.returncode == 0 and "very positive" in answer.stdout, answer.stderr
    proved = textassay("verify", str(run))
    assert proved.returncode == 0, proved.stderr


def test_shipped_jobs_are_found_by_name(
    textassay: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    for name in ("sst2_minilm_full", "jobs/sst2_minilm_full.yaml"):
        shown = textassay("train", name, "--show_config")
        assert shown.returncode == 0 and "sst2_minilm_full" in shown.stdout, shown.stderr
    missing = textassay("train", "jobs/nothing.yaml")
    assert missing.returncode == 2 and "there is no such job file" in missing.stderr


def test_slurm_files_come_along(
    textassay: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    programs = tmp_path / "bin"  # sbatch is not among them
    programs.mkdir()
    for name in ("bash", "dirname"):
        (programs / name).symlink_to(shutil.which(name) or name)
    flags = ("--time=1:00:00", "--", "--seeds=0")
    refused = textassay("submit", "quickstart", *flags, PATH=str(programs))
    assert refused.returncode == 2 and "there is no sbatch here" in refused.stderr
