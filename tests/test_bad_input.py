"""Bad data, settings and models: one paragraph, an exit code, and nothing left behind."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from tests import bad_input_cases, bad_setting_cases
from tests.bad_input_cases import (
    BAD_DATA,
    DATA,
    SKIPPED,
    TRAIN,
    USAGE,
    WELL_READ,
    Read,
    Refused,
    Skipped,
    pairs,
)
from tests.bad_setting_cases import MODELS, Broken
from tests.commands_for_tests import (
    Command,
    assert_refused,
    command,
    everything,
    go_offline,
    listed,
    refuse_to_train,
    write_all,
)
from tests.models_for_tests import tiny_bert, tiny_roberta

from textassay.config.schema import DataSection
from textassay.data.load import Dataset, load_dataset


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


def _check(case: Refused, train: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all(case.files)
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)
    before = everything()
    result = train(*(case.flags.split() if isinstance(case.flags, str) else case.flags))
    assert_refused(result, case.exit_code, *case.says)
    assert everything() == before


@pytest.mark.parametrize("case", listed(bad_input_cases.ALL))
def test_bad_data_are_refused(case, train, monkeypatch):
    _check(case, train, monkeypatch)


@pytest.mark.parametrize("case", listed(bad_setting_cases.ALL))
def test_bad_settings_are_refused(case, train, monkeypatch):
    _check(case, train, monkeypatch)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a usable GPU here")
@pytest.mark.parametrize("case", listed(bad_setting_cases.DEVICES))
def test_a_gpu_that_is_not_there_is_an_error(case, train, monkeypatch):
    _check(case, train, monkeypatch)


def test_the_same_command_goes_on_to_train_where_nothing_is_wrong(train: Command) -> None:
    """Else every refusal above could have a reason of its own."""
    write_all({"data.csv": TRAIN})
    result = train(*DATA.split())
    assert "training began" in str(result.exception)


@pytest.mark.parametrize("case", listed(MODELS))
def test_a_broken_model_is_refused(case: Broken, train: Command, model: Path) -> None:
    write_all({"data.csv": TRAIN})
    shutil.copytree(model, "base")
    case.spoil(Path("base"))
    before = everything()
    result = train(*DATA.split(), "--model_name_or_path", "base")
    assert_refused(result, USAGE, "base", *case.says)
    assert everything() == before


def test_an_unknown_model_is_refused_with_what_was_tried(train: Command) -> None:
    write_all({"data.csv": TRAIN})
    result = train(*DATA.split(), "--model_name_or_path", "nobody/nothing")
    assert_refused(
        result, USAGE, "model.model_name_or_path: nobody/nothing", "no such directory",
        "not in the local hub cache", "in no package", "HF_HUB_OFFLINE is set", "HF_HOME",
    )  # fmt: skip
    assert not Path("out").exists()


@pytest.mark.parametrize("flag", ["--model_name_or_path", "--data_path"])
def test_a_hub_that_cannot_be_reached_is_asked_for_seconds_only(
    flag: str, train: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    _go_online_without_a_network(monkeypatch)
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    write_all({"data.csv": TRAIN})
    result = train(*DATA.split(), flag, "nobody/nothing")
    assert_refused(result, USAGE if "model" in flag else BAD_DATA, "nobody/nothing")
    assert sum(slept) <= 5


def _go_online_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub whose port is closed: nothing is sent beyond this machine."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    for place in ("huggingface_hub.constants", "datasets.config"):
        monkeypatch.setattr(f"{place}.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", "http://127.0.0.1:9")


def test_positions_that_a_roberta_keeps_for_itself_are_not_there_for_text(
    train: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write_all({"data.csv": TRAIN})
    roberta = tiny_roberta(tmp_path_factory.mktemp("models") / "tiny-roberta", positions=64)
    arguments = [*DATA.split(), "--model_name_or_path", str(roberta), "--max_seq_length", "65"]
    assert_refused(train(*arguments), USAGE, "model.max_seq_length", "65", "64 positions")


def _rows(dataset: Dataset) -> Counter[tuple[str, str]]:
    return Counter(
        pair
        for split in dataset.splits.values()
        for pair in zip(split["text"].to_pylist(), split["label"].to_pylist(), strict=True)
    )


@pytest.mark.parametrize("case", listed(WELL_READ))
def test_odd_data_are_read_to_the_last_row(case: Read) -> None:
    write_all({case.file: case.content})
    dataset = load_dataset(DataSection(path=case.file))
    assert _rows(dataset) == Counter(case.rows)
    about_the_file = [note for note in dataset.notes if note.startswith(case.file)]
    if case.note:
        assert len(about_the_file) == 1 and case.note in about_the_file[0]
    else:
        assert about_the_file == []


@pytest.mark.parametrize("case", listed(SKIPPED))
def test_every_row_is_either_used_or_counted_as_left_out(case: Skipped) -> None:
    write_all({"data.csv": case.content})
    dataset = load_dataset(DataSection(path="data.csv", on_bad_rows="skip"))
    used = _rows(dataset)
    notes = [note for note in dataset.notes if " left out: data.csv, line 6" in note]
    assert len(notes) == 1
    assert used <= Counter(pairs())
    assert used.total() + int(notes[0].split()[0]) == len(pairs()) + case.bad
