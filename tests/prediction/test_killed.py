"""Killed at any moment, a prediction goes on and ends with the same bytes; memory is bounded."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.prediction.answering import make_classifier, texts_of, write_table

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["textassay.artifacts.kinds", "textassay.artifacts.classifier"])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_classifier(tmp_path_factory.mktemp("classifier"))


def carry_out(model: Path, source: Path, output: Path) -> None:
    """The command in a process of its own, in small parts."""
    from textassay.prediction import rows
    from textassay.prediction.answers import Choices
    from textassay.prediction.command import Ask, answer_file

    rows.WINDOW_ROWS = 16
    ask = Ask(str(model), None, None, "cpu", 1, Choices())
    answer_file(ask, source, output, None, None, "error", force=False)


def parts_there(output: Path) -> int:
    folder = output.with_name(f".{output.name}.parts")
    return len([p for p in folder.glob("[0-9]*") if p.suffix == ""]) if folder.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_sigkill_at_random_moments_changes_no_byte(suffix, model, tmp_path):
    source = write_table(tmp_path / f"in.{suffix}", {"text": texts_of(1600)})
    whole, output = tmp_path / f"whole.{suffix}", tmp_path / f"out.{suffix}"
    carry = CONTEXT.Process(target=carry_out, args=(model, source, whole))
    carry.start()
    carry.join()
    assert carry.exitcode == 0
    dice, killed = random.Random(suffix), 0
    while not output.exists():
        before = parts_there(output)
        process = CONTEXT.Process(target=carry_out, args=(model, source, output))
        process.start()
        while process.is_alive() and parts_there(output) == before:
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.25))
        if process.is_alive() and killed < 4:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        assert output.exists() or parts_there(output) > before
    assert killed >= 2
    assert output.read_bytes() == whole.read_bytes()
    left = {path.name for path in tmp_path.iterdir()} - {source.name, whole.name, output.name}
    # Killed behind its last act but one, it has left the folder that it was about to remove.
    assert left <= {f".{output.name}.parts"}


MEASURE = """
import re, sys
from pathlib import Path
from textassay.prediction.answers import Choices
from textassay.prediction.command import Ask, answer_file

model, *sources = sys.argv[1:]
for source in sources:
    ask = Ask(model, None, None, "cpu", 1, Choices())
    output = Path(source).with_stem("answers")
    answer_file(ask, Path(source), output, None, None, "error", force=True)
    # Not getrusage: a child inherits the peak of the process that started it.
    print("peak", re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
def test_a_long_file_needs_no_more_memory_than_a_short_one(model, tmp_path):
    """Pages of 20 kB beside short texts: 160 MB of them need hardly more than 40 MB.

    Holding them would take 280 MB more (measured); what grows is the heap, until it has settled.
    """
    sources = []
    for rows in (2000, 8000):
        columns = {"text": texts_of(rows), "page": [f"{row:05d}" * 4000 for row in range(rows)]}
        for suffix in ("csv", "parquet"):
            sources.append(write_table(tmp_path / f"{rows}.{suffix}", columns))
    del columns
    command = [sys.executable, "-c", MEASURE, model, *sources]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peaks = [int(line.split()[1]) // 1024 for line in done.stdout.splitlines() if "peak" in line]
    assert len(peaks) == 4
    assert peaks[3] - peaks[1] < 150, f"{peaks} MB"
