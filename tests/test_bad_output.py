"""Output directories, jobs and processes that fail: what is there stays as it is."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.bad_input_cases import DATA, TRAIN, USAGE
from tests.commands_for_tests import (
    SCRIPTS,
    Command,
    assert_refused,
    command,
    everything,
    go_offline,
    paragraph,
    refuse_to_train,
    with_defaults,
    write_all,
)
from tests.fork_server import python
from tests.models_for_tests import tiny_bert

from textassay.config.load import resolve_job
from textassay.config.runs import Run, preparing


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model with 64 positions."""
    return tiny_bert(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(autouse=True)
def in_a_folder(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each test works in its own folder, and keeps its caches elsewhere."""
    monkeypatch.chdir(tmp_path)
    go_offline(monkeypatch, tmp_path_factory.getbasetemp() / "caches")


@pytest.fixture
def train(model: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`train("--flag", "value")`: scripts/train_lora.py, in this process, with the tiny model."""
    refuse_to_train(monkeypatch)
    return command("train_lora", model)


OUTPUTS = [
    pytest.param("data.csv", USAGE, "is a file", id="a file"),
    pytest.param("data.csv/below", USAGE, "data.csv", id="below a file"),
    pytest.param("/proc/textassay/out", 1, "/proc/textassay", id="below proc"),
    pytest.param("o" * 300, 1, "ooo", id="a name too long"),
    pytest.param("theirs", USAGE, "holds files that are not of a run", id="a stranger's"),
    pytest.param("damaged", USAGE, "holds files that are not of a run", id="damaged"),
]


@pytest.mark.parametrize(("folder", "exit_code", "says"), OUTPUTS)
def test_an_output_directory_that_cannot_be_is_refused(
    folder: str, exit_code: int, says: str, train: Command
) -> None:
    write_all({"data.csv": TRAIN, "theirs/thesis.txt": "years", "damaged/config.yaml": "{"})
    before = everything()
    result = train(*DATA.split(), "--output_dir", folder)
    assert_refused(result, exit_code, folder, says)
    assert everything() == before
    again = train(*DATA.split(), "--output_dir", folder, "--force")
    assert_refused(again, exit_code, folder, says)
    assert everything() == before


@pytest.fixture
def mounted() -> Iterator[Callable[..., Path]]:
    """`mounted("-t", "tmpfs", "tmpfs")`: the folder `mnt` with something mounted on it."""
    folder = Path("mnt").absolute()
    folder.mkdir()
    done = []

    def mount(*arguments: str) -> Path:
        if os.geteuid() != 0 or shutil.which("mount") is None:
            pytest.skip("mounting needs root and mount(8)")
        made = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True)
        if made.returncode != 0:
            pytest.skip(f"mounting is not allowed here: {made.stderr.strip()}")
        done.append(folder)
        return folder

    yield mount
    for _ in done:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_output_directory_is_refused(train: Command, mounted: Any) -> None:
    write_all({"data.csv": TRAIN, "source/kept.txt": ""})
    folder = mounted("--bind", "source")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
    result = train(*DATA.split(), "--output_dir", "mnt/out")
    assert_refused(result, 1, "mnt/out", "read-only file system", "--output_dir")
    assert os.listdir("mnt") == ["kept.txt"]  # noqa: PTH208


def test_a_full_disk_is_refused(train: Command, mounted: Any) -> None:
    write_all({"data.csv": TRAIN})
    folder = mounted("-t", "tmpfs", "-o", "size=16k", "tmpfs")
    with (folder / "full").open("wb", buffering=0) as stream, pytest.raises(OSError):
        while True:
            stream.write(b"x" * 4096)
    result = train(*DATA.split(), "--output_dir", "mnt/out")
    assert_refused(result, 1, "mnt/out", "no space left on device", "--output_dir")
    assert os.listdir("mnt") == ["full"]  # noqa: PTH208


@pytest.mark.slow
def test_a_disk_that_fills_while_training_is_named_and_the_run_goes_on(
    model: Path, mounted: Any
) -> None:
    """torch's writer says "unexpected pos 166592 vs 166480" of a full disk."""
    rows = "".join(f"text {word} {number},{word}\n" for number in range(40) for word in "ab")
    write_all({"data.csv": "text,label\n" + rows})
    folder = mounted("-t", "tmpfs", "-o", "size=280k", "tmpfs")
    flags = ["--max_steps", "2", "--eval_strategy", "steps", "--eval_steps", "1", "--save_strategy",
             "steps", "--save_steps", "1", "--baselines", "false", "--bootstrap_samples", "100",
             "--allow_unlearned", "--output_dir", "mnt/out"]  # fmt: skip
    arguments = with_defaults((*DATA.split(), *flags), model)
    full = _process("train_full", *arguments)
    assert full.returncode == 1, full.stderr
    assert "Traceback" not in full.stderr and "unexpected pos" not in full.stderr
    *_, said = [line for line in full.stderr.splitlines() if line.startswith("error: ")]
    assert "mnt/out/checkpoint-1: cannot be written (no space left" in said and len(said) < 600
    assert {path.name for path in (folder / "out").iterdir()} == {"config.yaml", "provenance.json"}
    subprocess.run(["mount", "-o", "remount,size=30m", str(folder)], check=True)
    assert _process("train_full", *arguments).returncode == 0
    assert (folder / "out" / "finished.json").is_file()


def _finished_run(model: Path, learning_rate: str) -> None:
    """What a run with this learning rate leaves in `out`, as far as the next one looks at it."""
    settings = {
        "data.path": "data.csv",
        "model.model_name_or_path": str(model),
        "model.max_seq_length": "32",
        "training.learning_rate": learning_rate,
    }
    job, _ = resolve_job(None, None, {}, settings, "lora")
    run = Run(job, 0, Path("out"))
    with preparing(run):
        pass
    run.finish({})


def test_a_finished_run_with_another_configuration_is_kept(train: Command, model: Path) -> None:
    write_all({"data.csv": TRAIN})
    _finished_run(model, "0.001")
    before = everything()
    result = train(*DATA.split(), "--learning_rate", "0.002")
    assert_refused(
        result, USAGE, "out: holds a run with another configuration",
        "training.learning_rate: 0.001 there, 0.002 here", "--force", "--output_dir",
    )  # fmt: skip
    assert everything() == before


def test_a_finished_run_with_the_same_configuration_is_left_alone(
    train: Command, model: Path
) -> None:
    write_all({"data.csv": TRAIN})
    _finished_run(model, "0.001")
    before = everything()
    result = train(*DATA.split(), "--learning_rate", "0.001")
    assert (result.exit_code, result.stderr) == (0, "out is finished; --force runs it again\n")
    assert everything() == before


def test_a_damaged_mark_of_the_end_is_named(train: Command, model: Path) -> None:
    write_all({"data.csv": TRAIN})
    _finished_run(model, "0.001")
    Path("out/finished.json").write_text("{")
    result = train(*DATA.split(), "--learning_rate", "0.001")
    assert_refused(result, 1, "finished.json")


def test_a_misspelt_flag_is_a_usage_error_that_names_the_nearest(train: Command) -> None:
    write_all({"data.csv": TRAIN})
    result = train(*DATA.split(), "--learning_rte", "1")
    assert result.exit_code == USAGE
    assert "'--learning_rte'" in result.stderr and "'--learning_rate'" in result.stderr
    assert not Path("out").exists()


def test_one_bad_job_stops_a_batch_before_it_begins(model: Path) -> None:
    job = f"data: {{path: data.csv}}\nmodel: {{model_name_or_path: {model}}}\n"
    write_all({"data.csv": TRAIN, "good.yaml": job, "bad.yaml": job + "sedes: [1]\n"})
    before = everything()
    result = command("train_batch", model)("good.yaml", "bad.yaml")
    assert_refused(result, USAGE, "bad.yaml: sedes", "did you mean seeds?")
    empty = command("train_batch", model)("good.yaml", "--seeds", "")
    assert_refused(empty, USAGE, "flag: seeds")
    assert everything() == before


def _process(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [python(), str(SCRIPTS / f"{script}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


PROCESSES = [
    ([*DATA.split(), "--output_dir", "out"], 65, "data.csv: is empty."),
    (["my.yaml", "--output_dir", "out"], USAGE, "did you mean learning_rate?"),
]


@pytest.mark.parametrize(("arguments", "exit_code", "says"), PROCESSES, ids=["data", "job"])
def test_a_process_says_one_paragraph(arguments: list[str], exit_code: int, says: str) -> None:
    write_all({"data.csv": "", "my.yaml": "training: {learning_rte: 1}\n"})
    done = _process("train_lora", *arguments)
    assert done.returncode == exit_code
    assert says in paragraph(done.stderr)
    assert done.stdout == ""
    assert not Path("out").exists()


def test_a_batch_says_which_run_failed_and_why(model: Path) -> None:
    write_all({"data.csv": "text,label\n", "my.yaml": "data: {path: data.csv}\n"})
    done = _process("train_batch", *with_defaults(("my.yaml", "--seeds", "0"), model))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors == [
        "error: data.csv: has a header but no rows.",
        "error: 1 of the runs failed: out/my/seed-0 (exit code 65).",
    ]
    assert not Path("out").exists()
