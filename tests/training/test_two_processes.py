"""Whole trainings as processes: two on one directory, and one that goes on with other data."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.commands_for_tests import ALLOW_UNLEARNED
from tests.fork_server import python
from tests.training.killing import trained_weights

from textassay.files import project_root
from textassay.locking import LOCK

pytestmark = pytest.mark.slow
STEPS = ("--max_steps", "40", "--save_steps", "5", "--eval_steps", "5", "--save_strategy", "steps",
         "--eval_strategy", "steps")  # fmt: skip
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tiny_base: Path, tmp_path: Path) -> Start:
    """start("folder", "--flag"): a training of rows.csv, as a process."""
    lines = (f"{('dull', 'warm', 'odd')[n % 3]} film number {n},{'abc'[n % 3]}" for n in range(120))
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", ALLOW_UNLEARNED: "true",
                   "TEXTASSAY_CACHE": str(tmp_path / "cache"),
                   "TEXTASSAY_EVALUATION__BASELINES": "false",
                   "TEXTASSAY_EVALUATION__BOOTSTRAP_SAMPLES": "100"}  # fmt: skip

    def begin(folder: str, *flags: str) -> "subprocess.Popen[str]":
        command = [python(), str(project_root() / "scripts" / "train_lora.py"), "--data_path",
                   "rows.csv", "--model_name_or_path", str(tiny_base), "--max_seq_length", "32",
                   "--per_device_train_batch_size", "4", "--output_dir", folder, *STEPS,
                   *flags]  # fmt: skip
        return subprocess.Popen(
            command, cwd=tmp_path, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )  # fmt: skip

    return begin


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def outcome(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """The exit code, and the last line of what was said."""
    said = process.communicate(timeout=120)[1]
    assert "Traceback" not in said, said
    return process.returncode, said.strip().splitlines()[-1]


def test_a_second_training_is_refused_and_the_first_one_ends_as_if_alone(
    start: Start, tmp_path: Path
) -> None:
    alone = start("alone")
    assert outcome(alone)[0] == 0
    first = start("run")
    wait_for(tmp_path / "run" / LOCK, first)
    for flags in ((), ("--force",)):
        code, said = outcome(start("run", *flags))
        assert code == 2 and said.startswith("error: run: is in use by process "), said
    assert first.poll() is None, "it was over before the others were refused"
    assert outcome(first)[0] == 0
    assert trained_weights(tmp_path / "run") == trained_weights(tmp_path / "alone")
    assert not (tmp_path / "run" / LOCK).exists()


def test_a_run_that_goes_on_with_other_data_is_refused_until_they_are_put_back(
    start: Start, tmp_path: Path
) -> None:
    first = start("run")
    wait_for(tmp_path / "run" / "checkpoint-5" / "complete.json", first)
    first.send_signal(signal.SIGTERM)
    assert outcome(first)[0] == 75
    before = sorted(path for path in (tmp_path / "run").rglob("*") if path.is_file())
    rows = tmp_path / "rows.csv"
    content = rows.read_text()
    for changed in (content + "one more film,a\n", content.replace("number 7,b", "number 7,c")):
        rows.write_text(changed)
        code, said = outcome(start("run"))
        assert code == 2 and "changed since this run was begun" in said, said
    assert sorted(path for path in (tmp_path / "run").rglob("*") if path.is_file()) == before
    rows.write_text(content)
    assert outcome(start("run"))[0] == 0
