"""Processes that take no module from the folder they are started in, whoever left it there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from textassay.files import project_root
from textassay.interpreter import python_command

ROOT = project_root()
# A standard module that all of these import; whoever takes this one leaves a file behind.
HOSTILE = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nraise SystemExit(0)\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with modules of somebody else in it."""
    for name in ("json", "click", "textassay"):
        (tmp_path / f"{name}.py").write_text(HOSTILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_started_python_imports_no_module_of_the_current_folder(folder: Path) -> None:
    asked = ["-m", "json.tool", "--help"]
    subprocess.run([sys.executable, *asked], check=True, capture_output=True)
    assert (folder / "ran").exists(), "without the flag it has to run, or this shows nothing"
    (folder / "ran").unlink()
    subprocess.run(python_command(*asked), check=True, capture_output=True)
    assert not (folder / "ran").exists()


def test_what_the_shell_scripts_start_does_neither(folder: Path) -> None:
    code = (
        f"source {ROOT}/scripts/environment.sh; find_python {ROOT} ''; \"$PYTHON\" -m json.tool -h"
    )
    environment = {"PATH": os.environ["PATH"], "TEXTASSAY_PYTHON": sys.executable}
    done = subprocess.run(["bash", "-Eeuo", "pipefail", "-c", code], env=environment,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0 and "usage" in done.stdout, done.stderr
    assert not (folder / "ran").exists()


def test_no_other_module_starts_a_python_itself() -> None:
    # The others only name it: in a command for the user, and for Slurm's own start of a Python.
    named = {"training/extras.py", "cluster/needs.py", "commands/submit.py", "interpreter.py"}
    package = ROOT / "src" / "textassay"
    found = {str(path.relative_to(package)) for path in package.rglob("*.py")
             if "sys.executable" in path.read_text(encoding="utf-8")}  # fmt: skip
    assert found == named


def test_every_sbatch_file_starts_python_so_too() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "slurm").iterdir()
             if path.suffix in (".sh", ".sbatch")]  # fmt: skip
    started = re.findall(r'"\$python"( -P)? -[mc]', "\n".join(texts))
    assert len(started) >= 3 and set(started) == {" -P"}
