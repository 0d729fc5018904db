"""What the reader notes, a guessed encoding above all, reaches the user from every command."""

import pkgutil
from pathlib import Path
from typing import Any

import pytest
from tests.commands_for_tests import go_offline, refuse_to_train, script
from tests.models_for_tests import tiny_bert
from tests.stored_runs_for_tests import make_run, rows_csv

from textassay import commands

NOTE = "is not UTF-8 and read as Windows-1252, a guess ('café'"
FRENCH = rows_csv(0).replace("film", "café").encode("cp1252")
# Commands that read no rows, or leave it to one of the others, whose process they start.
READ_NONE = {"consolidate", "doctor", "serve", "verify"}
START_OTHERS = {"train_batch", "train_deepspeed", "submit"}
TRAIN = ["--data_path", "rows.csv", "--model_name_or_path", "base", "--max_seq_length", "32"]
COMMANDS: dict[str, list[str]] = {
    "train_lora": [*TRAIN, "--output_dir", "lora"],
    "train_full": [*TRAIN, "--output_dir", "full"],
    "distill": ["a", "--student", "base", "--output_dir", "student"],
    "plan": TRAIN,
    "evaluate": ["a/model", "--output_dir", "own"],
    "evaluate other rows": ["a", "--data_path", "rows.csv", "--output_dir", "tested"],
    "compare": ["a", "b"],
    "compare other rows": ["a", "b", "--data_path", "rows.csv"],
    "export": ["a", "--to", "onnx"],
    "export on other rows": ["a", "--to", "onnx", "--data_path", "rows.csv"],
    "predict": ["a", "--input", "rows.csv", "--output", "answers.csv"],
    "clean": ["rows.csv", "--output", "clean.csv"],
    "prune": ["b", "--output_dir", "pruned", "--ffn", "0.5", "--heads", "0.5"],
}


class StoppedError(Exception):
    """The command has said what it has to say of its rows."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on a file in Windows-1252, and their base."""
    root = tmp_path_factory.mktemp("french")
    with pytest.MonkeyPatch.context() as patch:
        go_offline(patch, root / "caches")
        patch.chdir(root)
        Path("rows.csv").write_bytes(FRENCH)
        tiny_bert(root / "base", [FRENCH.decode("cp1252")])
        make_run(root / "a", root / "base", root / "rows.csv", 0)
        make_run(root / "b", root / "base", root / "rows.csv", 1, method="full")
    return root


def stop(*_: Any, **__: Any) -> None:
    raise StoppedError


@pytest.mark.parametrize("named", COMMANDS)
def test_a_note_of_the_reader_is_said(
    named: str, place: Path, monkeypatch: pytest.MonkeyPatch, verified_here: None
) -> None:
    go_offline(monkeypatch, place / "caches")
    monkeypatch.chdir(place)
    refuse_to_train(monkeypatch)
    for late in ("exporting.export.write_onnx", "evaluation.standalone.evaluate",
                 "evaluation.compare.evaluate"):  # fmt: skip
        monkeypatch.setattr(f"textassay.{late}", stop)
    result = script(named.split()[0])(*COMMANDS[named])
    assert NOTE in " ".join(result.stderr.split()), result.output


def test_every_command_is_among_them() -> None:
    named = {name.split()[0] for name in COMMANDS}
    modules = {module.name for module in pkgutil.iter_modules(commands.__path__)}
    assert named | READ_NONE | START_OTHERS == modules - {"group"}
    assert not named & (READ_NONE | START_OTHERS)
