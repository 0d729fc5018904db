"""docs/deploy.md, block by block as it stands: every way to ask gives the same answer."""

import ast
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import fork_server
from tests.commands_for_tests import ALLOW_UNLEARNED

from textassay.files import project_root

pytestmark = pytest.mark.slow
PAGE = project_root() / "docs" / "deploy.md"
RUN = "runs/quickstart/seed-123"
TEXT = "Heaven, and they do takeaway."
SECONDS_TO_START = 120


def blocks(language: str) -> list[str]:
    """The page's blocks of code in a language."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a clone, with the quickstart's run of seed 123, trained for a few steps."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("scripts", "jobs", "data", "src", "train.sh", "constraints.txt", "pyproject.toml"):
        (folder / name).symlink_to(project_root() / name)
    shell(folder, "bash train.sh --seeds 123 --max_steps 40 --max_samples 400")
    return folder


def environment(folder: Path) -> dict[str, str]:
    """A clean one, in which `python` is forked."""
    forked = fork_server.python()
    programs = folder / "bin"
    if not programs.is_dir():  # as pip would write it into an environment
        programs.mkdir()
        command = programs / "textassay"
        command.write_text('#!/bin/sh\nexec python -m textassay "$@"\n')
        command.chmod(0o755)
    return {
        "PATH": f"{programs}:{Path(forked).parent}:{os.environ['PATH']}",
        "HOME": str(folder), "TEXTASSAY_PYTHON": forked, "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1", ALLOW_UNLEARNED: "true",
    }  # fmt: skip


def shell(folder: Path, commands: str) -> str:
    """Run commands as a newcomer would; what they print."""
    done = subprocess.run(
        ["bash", "-ec", commands], cwd=folder, env=environment(folder), capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr, done.stderr
    return done.stdout


def python(folder: Path, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(folder), capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def shipped(clone: Path) -> Path:
    """The clone after the page's exports."""
    train, onnx, int8, *_ = blocks("bash")
    assert train.startswith("bash train.sh\n")
    assert "all labels equal" in shell(clone, onnx)
    assert "unproven: macro-F1" in shell(clone, int8)
    return clone


@pytest.fixture(scope="module")
def wanted(shipped: Path) -> dict[str, float]:
    """The probabilities that torch gives."""
    code = (
        "from textassay import Classifier; import json\n"
        f"c = Classifier.load('{RUN}', device='cpu')\n"
        f"print(json.dumps(c.predict({TEXT!r})['probabilities']))"
    )
    found: dict[str, float] = json.loads(python(shipped, code))
    return found


def same(found: dict[str, float], wanted: dict[str, float], within: float = 1e-3) -> None:
    assert found == {label: pytest.approx(p, abs=within) for label, p in wanted.items()}


def test_on_the_terminal_and_for_a_file(shipped: Path, wanted: dict[str, float]) -> None:
    commands = next(block for block in blocks("bash") if "--input" in block)
    said = shell(shipped, commands)
    first = json.loads(said.splitlines()[0])
    same(first["probabilities"], wanted)
    with (shipped / "answers.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    with (project_root() / "data/samples/sentiment5_en.csv").open(encoding="utf-8") as stream:
        given = list(csv.DictReader(stream))
    assert [row["text"] for row in rows] == [row["text"] for row in given]
    assert {row["predicted"] for row in rows} <= set(wanted)


def test_from_python_and_with_onnx_runtime_alone(shipped: Path, wanted: dict[str, float]) -> None:
    ours, alone = blocks("python")
    answer, *table = python(shipped, ours).splitlines()
    same(ast.literal_eval(answer)["probabilities"], wanted)
    assert len(table) == 2
    assert "textassay" not in alone.replace('"textassay"', "").replace("custom_metadata_map", "")
    same(ast.literal_eval(python(shipped, alone)), wanted, within=2e-3)


@pytest.fixture(scope="module")
def server(shipped: Path) -> Iterator[str]:
    """The page's server, on the page's port; it ends well when it is told to."""
    command = next(block for block in blocks("bash") if "textassay serve" in block)
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=shipped, env=environment(shipped),
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen("http://127.0.0.1:8000/ready")
            break
        except OSError:
            time.sleep(0.2)
    assert process.poll() is None, process.stderr.read() if process.stderr else ""
    yield "http://127.0.0.1:8000"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_over_http(server: str, shipped: Path, wanted: dict[str, float]) -> None:
    commands = next(block for block in blocks("bash") if "curl" in block)
    predict, analyse, ready = (
        json.loads(shell(shipped, command)) for command in commands.strip().splitlines()
    )
    # INT8 answers, which is near.
    found: list[dict[str, Any]] = predict
    same({one["label"]: one["score"] for one in found}, wanted, within=0.05)
    same(analyse["probabilities"], wanted, within=0.05)
    assert ready


def test_whoever_gets_it_can_hold_it_to_its_hallmark(shipped: Path) -> None:
    said = shell(shipped, blocks("bash")[-1])
    assert said.startswith("verified  ") and "probe rows within" in said
