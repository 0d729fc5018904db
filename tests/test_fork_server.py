"""A forked command does what the same command does in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.commands_for_tests import ALLOW_UNLEARNED
from tests.fork_server import LIKE_THE_SERVER, python
from tests.serving.tiny_onnx import tiny_onnx

from textassay.files import project_root, read_json, sha256_file

SCRIPTS = project_root() / "scripts"
pytestmark = pytest.mark.slow
# What differs between two runs of the same command: times, and what is computed from them.
UNLIKE = {
    "provenance.json", "finished.json", "train_results.json", "trainer_state.json",
    "all_results.json", "report.html", "training_args.bin", "hallmark.json", "complete.json",
    "adapter_config.json", "test_results.json",
}  # fmt: skip


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder), **LIKE_THE_SERVER,
            ALLOW_UNLEARNED: "true", **more}  # fmt: skip


def both(folder: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a forked process and in one of its own, which must end with the same bytes."""
    ends = []
    for number, executable in enumerate((python(), sys.executable)):
        place = folder / str(number)
        place.mkdir(exist_ok=True)
        ends.append(subprocess.run(
            [executable, *arguments], cwd=place, env=environment(place), input=typed,
            capture_output=True, text=True,
        ))  # fmt: skip
    forked, own = ends
    assert (forked.returncode, forked.stdout) == (own.returncode, own.stdout), forked.stderr
    assert forked.stderr.replace(str(folder / "0"), "") == own.stderr.replace(str(folder / "1"), "")
    return forked


def files_below(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path)
            for path in sorted(folder.rglob("*")) if path.is_file()}  # fmt: skip


def test_a_run_is_the_same_to_the_byte(tmp_path: Path) -> None:
    done = both(
        tmp_path, str(SCRIPTS / "train_lora.py"), "--data_name", "sentiment5_en", "--output_dir",
        "out", "--max_samples", "40", "--max_steps", "2",
    )  # fmt: skip
    assert done.returncode == 0 and "report     out/report.html" in done.stderr
    forked, own = files_below(tmp_path / "0" / "out"), files_below(tmp_path / "1" / "out")
    assert forked.keys() == own.keys() and "model/adapter_model.safetensors" in own
    differing = {Path(name).name for name in own if forked[name] != own[name]}
    assert differing <= UNLIKE, differing - UNLIKE
    ends = [read_json(tmp_path / number / "out" / "test_results.json") for number in "01"]
    for end in ends:
        del end["hallmark"]
    assert ends[0] == ends[1]
    # PEFT lists what was a set, in an order of the process's own.
    adapters = [read_json(tmp_path / number / "out" / "model" / "adapter_config.json")
                for number in "01"]  # fmt: skip
    one, other = (
        {name: sorted(value) if isinstance(value, list) else value for name, value in each.items()}
        for each in adapters
    )
    assert one == other


def test_answers_refusals_help_and_pipes_are_the_same(tmp_path: Path) -> None:
    model = str(tiny_onnx(tmp_path / "model"))
    predict = str(SCRIPTS / "predict.py")
    assert both(tmp_path, predict, model, "--text", "ok").returncode == 0
    piped = both(tmp_path, predict, model, "--input", "-", typed='{"text": "caffè"}\n')
    assert piped.returncode == 0 and '"predicted"' in piped.stdout
    assert both(tmp_path, predict, model).returncode == 2
    assert both(tmp_path, predict, "--help").stdout.startswith("Usage: predict.py ")
    assert both(tmp_path, "-m", "textassay.artifacts.hallmark", "nowhere").returncode == 2


def test_what_changes_nothing_is_forked(tmp_path: Path) -> None:
    (tmp_path / "asks.py").write_text("import sys; print('torch' in sys.modules)")
    for more in ({"PYTHONUNBUFFERED": "1"}, {"DS_ACCELERATOR": "cpu"}, {"HF_HOME": "/nowhere"}):
        done = subprocess.run([python(), "-u", str(tmp_path / "asks.py")], capture_output=True,
                              env=environment(tmp_path, **more), text=True)  # fmt: skip
        assert done.stdout == "True\n", done.stderr


def test_what_cannot_be_forked_is_a_process_of_its_own(tmp_path: Path) -> None:
    asks = ["-c", "import sys; print('torch' in sys.modules, sys.argv[1:], sys.executable)", "x"]
    for arguments, more in (
        (asks, {}),
        ([str(tmp_path / "asks.py")], {"HF_HUB_CACHE": "/nowhere"}),
    ):
        (tmp_path / "asks.py").write_text(asks[1])
        done = subprocess.run([python(), *arguments], env=environment(tmp_path, **more),
                              capture_output=True, text=True)  # fmt: skip
        assert done.stdout.startswith("False") and sys.executable in done.stdout, done.stderr


def heed_the_keyboard() -> None:
    """What a shell starts in the background ignores SIGINT, and so does all that comes of it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_signals_exit_codes_and_kills_pass_through(tmp_path: Path) -> None:
    waiting = tmp_path / "waiting.py"
    waiting.write_text(
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(7))\n"
        "print(os.getpid(), 'torch' in sys.modules, flush=True)\n"
        "time.sleep(60)\n"
    )
    by_default = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
    for number, code in ((signal.SIGUSR1, 7), *((number, -number) for number in by_default)):
        with subprocess.Popen(
            [python(), str(waiting)], env=environment(tmp_path), text=True, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, preexec_fn=heed_the_keyboard,
        ) as process:  # fmt: skip
            pid, imported = process.stdout.readline().split()
            assert imported == "True" and int(pid) != process.pid
            process.send_signal(number)
            assert process.wait(timeout=30) == code
            last_moment = time.monotonic() + 30
            while Path(f"/proc/{pid}").exists():
                assert time.monotonic() < last_moment, "the forked process lives on"
                time.sleep(0.02)
