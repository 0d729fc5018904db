"""scripts/environment.sh: which Python, and a .venv that is whole and of this checkout.

Python and pip are played by a script, which writes down how it is called.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from textassay.files import project_root

# DIES: dies while it does that; BREAKS: fails at that.
PLAYED = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
[[ -z ${DIES:-} || "$*" != *"$DIES"* ]] || kill -9 $PPID $$
[[ -z ${BREAKS:-} || "$*" != *"$BREAKS"* ]] || exit 1
case "$*" in
  "-m venv --without-pip "*) mkdir -p "$4/bin" ;;
  "-m venv "*)
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    echo "VIRTUAL_ENV=\\"$3\\"" >"$3/bin/activate"
    ;;
  "-m pip install "*--editable*) sleep "${SLOW:-0}" ;;
esac
"""
TOO_OLD = "#!/usr/bin/env bash\n[[ $1 == --version ]] && echo Python 3.9.2\n"
# .venv itself, not the environment of what builds.
MADE = "-m venv /"
STEPS = ["--index-url", "base-model.txt", "--without-pip", "build.txt", "deepspeed-source.txt",
         "--no-index", "--editable"]  # fmt: skip
CALL = 'set -Eeuo pipefail; source scripts/environment.sh; find_python "$PWD" tests; echo $PYTHON'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What of a checkout the script reads."""
    root = tmp_path / "checkout"
    (root / "scripts").mkdir(parents=True)
    for name in ("scripts/environment.sh", "train.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(project_root() / name, root / name)
    shutil.copytree(project_root() / "locks", root / "locks")
    programs = tmp_path / "programs"
    programs.mkdir()
    install(programs / "python3.11", PLAYED)
    return root


def install(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o755)


def environment(root: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": f"{root.parent / 'programs'}:/usr/bin:/bin",
        "CALLS": str(root.parent / "calls"),
        "TEXTASSAY_TORCH_INDEX": "somewhere",
        **more,
    }


def find_python(root: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", CALL],
        cwd=root,
        env=environment(root, **more),
        capture_output=True,
        text=True,
    )


def calls(root: Path, of: str) -> int:
    """How often Python was called for that so far."""
    path = root.parent / "calls"
    return sum(of in line for line in path.read_text().splitlines()) if path.exists() else 0


def assert_made(root: Path, result: subprocess.CompletedProcess[str]) -> None:
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{root}/.venv/bin/python\n"
    assert f'"{root}/.venv"' in (root / ".venv" / "bin" / "activate").read_text()
    assert not (root / ".venv" / "unfinished").exists()


def test_an_environment_is_made_once(checkout: Path) -> None:
    assert_made(checkout, find_python(checkout))
    assert (calls(checkout, MADE), calls(checkout, "--editable")) == (1, 1)
    again = find_python(checkout)
    assert_made(checkout, again)
    assert again.stderr == "" and calls(checkout, "-m") == 1 + len(STEPS)
    for number, name in enumerate(("constraints.txt", "locks/core.txt"), 2):
        with (checkout / name).open("a") as stream:
            stream.write("# changed\n")
        assert_made(checkout, find_python(checkout))
        assert (calls(checkout, MADE), calls(checkout, "--editable")) == (1, number)


def test_what_pip_fetches_has_a_hash(checkout: Path) -> None:
    assert_made(checkout, find_python(checkout))
    asked = (checkout.parent / "calls").read_text().splitlines()
    fetched = [line for line in asked if "-m pip" in line and "--no-index" not in line]
    assert all("--no-deps" in line for line in fetched)
    assert [line for line in fetched if "--require-hashes" not in line] == [
        "-m pip install --no-deps --no-build-isolation --editable ."
    ]
    assert not any("extra-index-url" in line for line in asked)


@pytest.mark.parametrize("step", ["-m venv", *STEPS])
def test_a_set_up_that_was_killed_is_begun_anew(step: str, checkout: Path) -> None:
    assert find_python(checkout, DIES=step).returncode != 0
    assert_made(checkout, find_python(checkout))
    assert calls(checkout, MADE) == 2


@pytest.mark.parametrize("step", STEPS)
def test_an_environment_in_which_one_step_failed_does_not_count(step: str, checkout: Path) -> None:
    failed = find_python(checkout, BREAKS=step)
    assert failed.returncode == 1 and "installing failed" in failed.stderr
    assert not list((checkout / ".venv").glob("installed-*"))
    assert_made(checkout, find_python(checkout))


def test_a_kill_before_there_was_a_pip_is_no_dead_end(checkout: Path) -> None:
    """As an earlier version left it, which had no mark for what is unfinished."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    assert_made(checkout, find_python(checkout))


@pytest.mark.parametrize("move", [shutil.copytree, shutil.move])
def test_a_copied_or_moved_checkout_gets_an_environment_of_its_own(move, checkout: Path) -> None:
    find_python(checkout)
    elsewhere = checkout.parent / "elsewhere"
    move(checkout, elsewhere)
    assert_made(elsewhere, find_python(elsewhere))
    assert calls(checkout, MADE) == 2


def test_two_checkouts_that_share_an_environment_take_turns(checkout: Path) -> None:
    """The package in it is that of one of them."""
    elsewhere = checkout.parent / "elsewhere"
    shutil.copytree(checkout, elsewhere)
    find_python(checkout)
    (elsewhere / ".venv").symlink_to(checkout / ".venv")
    for number, root in enumerate((elsewhere, checkout), 2):
        assert find_python(root).returncode == 0
        assert calls(checkout, "--editable") == number


def test_two_set_ups_at_once_are_one(checkout: Path) -> None:
    first = subprocess.Popen(
        ["bash", "-c", CALL], cwd=checkout, env=environment(checkout, SLOW="1"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not calls(checkout, "--editable"):
        time.sleep(0.02)
    second = find_python(checkout)
    assert first.wait() == 0
    assert_made(checkout, second)
    assert "by another command; waiting" in second.stderr
    assert (calls(checkout, MADE), calls(checkout, "--editable")) == (1, 1)


def test_what_somebody_else_made_is_added_to(checkout: Path) -> None:
    """Without pip, too, as uv makes it."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(checkout.parent / "programs" / "python3.11", checkout / ".venv" / "bin" / "python")
    (checkout / ".venv" / "mine").write_text("mine")
    result = find_python(checkout, BREAKS="-m pip --version")
    assert result.returncode == 0 and calls(checkout, MADE) == 0
    assert calls(checkout, "ensurepip") == 1
    assert (checkout / ".venv" / "mine").exists()


def test_without_a_python_that_is_new_enough_nothing_else_is_said(checkout: Path) -> None:
    for name in ("python3.11", "python3.12", "python3.13", "python3.14", "python3"):
        install(checkout.parent / "programs" / name, TOO_OLD)
    result = find_python(checkout)
    assert result.returncode == 1
    said = result.stderr.splitlines()
    assert said[0].startswith("setting up") and len(said) == 2
    assert "Python 3.11 to 3.14 is needed" in said[1] and "Python 3.9.2" in said[1]
    assert "TEXTASSAY_PYTHON" in said[1]


@pytest.mark.parametrize("variable", ["TEXTASSAY_PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX"])
def test_an_environment_with_another_checkouts_package_is_refused(
    variable: str, checkout: Path
) -> None:
    python = Path(sys.executable)
    folder = checkout.parent / "active"
    (folder / "bin").mkdir(parents=True)
    install(folder / "bin" / "python", f'#!/bin/sh\nexec {python} "$@"\n')
    value = str(folder / "bin" / "python") if variable == "TEXTASSAY_PYTHON" else str(folder)
    result = find_python(checkout, **{variable: value})
    assert result.returncode == 1
    assert f"the textassay of another checkout, {project_root()}" in result.stderr
    assert find_python(project_root(), **{variable: value}, CALLS=os.devnull).returncode == 0


def test_a_python_that_is_none_or_lacks_the_package_is_named(checkout: Path) -> None:
    gone = find_python(checkout, TEXTASSAY_PYTHON="/nowhere/python")
    assert gone.returncode == 1 and "/nowhere/python, which is no program" in gone.stderr
    install(checkout.parent / "programs" / "bare", f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare = find_python(checkout, TEXTASSAY_PYTHON=str(checkout.parent / "programs" / "bare"))
    assert bare.returncode == 1 and "has no textassay; run: " in bare.stderr
