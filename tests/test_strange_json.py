"""JSON and YAML of a stranger's model or run may hold anything; no command breaks on it.

Of the many things that a file may hold instead, three for each: what is no JSON to Python, what is
another type, and an object whose fields are.
"""

import shutil
from pathlib import Path

import pytest
from tests.commands_for_tests import go_offline, script
from tests.stored_runs_for_tests import Place, make_place

from textassay.artifacts.kinds import load_artifact
from textassay.config.runs import settings_of_teacher
from textassay.errors import TextassayError

OTHER = {"data": 5, "base": [], "config": {}, "job": [1], "learning": 5, "files": 3, "labels": {}}
ODD = {"deep": "[" * 100_000, "null": "null", "other": str(OTHER).replace("'", '"')}
IN_MODEL = ["config.json", "adapter_config.json", "tokenizer_config.json", "tokenizer.json",
            "label_mapping.json"]  # fmt: skip
IN_RUN = ["finished.json", "provenance.json", "train_results.json", "eval_results.json",
          "test_results.json"]  # fmt: skip
CONFIGS = ["fingerprint: [1]\ndata: 5\nmodel: []\ntraining: x\nseed: {}\n",
           "fingerprint: sha256:0\n", "a: 2024-13-45\n", "[" * 100_000]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Two runs on one base."""
    return make_place(tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("caches"))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    go_offline(monkeypatch, tmp_path / "caches")
    monkeypatch.chdir(tmp_path)


def assert_named(name: str, *arguments: object) -> None:
    """An answer, or an error in words with one of the documented exit codes."""
    done = script(name)(*arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise AssertionError(f"{name}: {done.exception!r}") from done.exception
    assert done.exit_code in (0, 1, 2, 3, 65) and "Traceback" not in done.output, done.output
    said = done.stderr.strip().splitlines()
    assert done.exit_code == 0 or said[-1].startswith("error: "), done.output


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
@pytest.mark.parametrize("name", IN_MODEL)
def test_a_model_with_odd_json_is_refused_in_words(
    name: str, content: str, place: Place, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(place.a / "model", tmp_path / "model"))
    (model / name).write_text(content)
    (model / "hallmark.json").unlink()
    try:
        load_artifact(model)
    except TextassayError as error:
        assert error.exit_code in (2, 3) and str(model) in str(error)
    assert_named("doctor", model)


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json"])
def test_a_base_with_odd_json_is_refused_in_words(
    name: str, content: str, place: Place, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(place.base, tmp_path / "base"))
    (base / name).write_text(content)
    told = ("--data_path", place.data, "--output_dir", "out", "--max_steps", "1")
    assert_named("train_lora", "--model_name_or_path", base, *told)
    assert not Path("out", "finished.json").exists()


def copy_run(place: Place, tmp_path: Path) -> Path:
    run = Path(shutil.copytree(place.a, tmp_path / "run"))
    for other in ("finished.json", "provenance.json"):
        (run / other).write_text("{}")
    return run


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
@pytest.mark.parametrize("name", IN_RUN)
def test_a_run_with_odd_json_is_refused_in_words(
    name: str, content: str, place: Place, tmp_path: Path
) -> None:
    run = copy_run(place, tmp_path)
    (run / name).write_text(content)
    assert_named("evaluate", run, "--force")


@pytest.mark.parametrize("content", CONFIGS)
def test_a_run_with_an_odd_configuration_is_refused_in_words(
    content: str, place: Place, tmp_path: Path
) -> None:
    run = copy_run(place, tmp_path)
    (run / "config.yaml").write_text(content)
    assert_named("evaluate", run)
    assert_named("predict", run, "--text", "a good film")
    try:
        settings_of_teacher(run)
    except TextassayError as error:
        assert error.exit_code == 2
