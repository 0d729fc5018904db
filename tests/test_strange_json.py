"""JSON and YAML of a stranger's model or run may hold anything; no command breaks on it."""

import shutil
from pathlib import Path

import pytest
from tests.commands_for_tests import go_offline, script
from tests.stored_runs_for_tests import Place, make_place

DEEP = "[" * 100_000
ODD = {
    "nested too deeply": DEEP,
    "nested objects": '{"a":' * 100_000,
    "a list": "[]",
    "a list of lists": "[[1]]",
    "a text": '"x"',
    "null": "null",
    "a long number": "9" * 5000,
    "an empty object": "{}",
    "no JSON": "{",
    "other types": '{"data": 5, "base": [], "config": {}, "job": [1], "machine": null, "files": 3}',
}
IN_MODEL = ["config.json", "adapter_config.json", "tokenizer_config.json", "tokenizer.json",
            "label_mapping.json", "special_tokens_map.json", "generation_config.json",
            "added_tokens.json"]  # fmt: skip
IN_RUN = ["config.yaml", "finished.json", "provenance.json", "train_results.json",
          "eval_results.json", "test_results.json", "label_mapping.json", "teacher.json",
          "model/export.json", "onnx/hallmark.json", "onnx/export.json"]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("caches"))


def assert_named(name: str, *arguments: object) -> None:
    """An answer, or an error in words with one of the documented exit codes."""
    done = script(name)(*arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise AssertionError(f"{name}: {done.exception!r}") from done.exception
    assert done.exit_code in (0, 1, 2, 3, 65) and "Traceback" not in done.output, done.output
    last = done.stderr.strip().splitlines()[-1:]
    assert done.exit_code == 0 or name == "doctor" or last[0].startswith("error: "), done.output


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
@pytest.mark.parametrize("name", IN_MODEL)
def test_a_model_with_odd_json_is_refused_in_words(
    name: str, content: str, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_offline(monkeypatch, tmp_path)
    model = Path(shutil.copytree(place.a / "model", tmp_path / "model"))
    (model / name).write_text(content)
    (model / "hallmark.json").unlink()
    assert_named("predict", model, "--text", "a good film")
    assert_named("doctor", model)


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json"])
def test_a_base_with_odd_json_is_refused_in_words(
    name: str, content: str, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_offline(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    base = Path(shutil.copytree(place.base, tmp_path / "base"))
    (base / name).write_text(content)
    done = script("train_lora")("--model_name_or_path", base, "--data_path", place.data,
                                "--output_dir", "out", "--max_steps", "1")  # fmt: skip
    assert isinstance(done.exception, SystemExit) and done.exit_code in (2, 3), done.exception
    assert "Traceback" not in done.output and not Path("out").exists()
    assert_named("predict", place.a, "--text", "a", "--base_model_path", base)


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
@pytest.mark.parametrize("name", IN_RUN)
def test_a_run_with_odd_json_is_refused_in_words(
    name: str, content: str, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_offline(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    run = Path(shutil.copytree(place.a, tmp_path / "run"))
    for other, harmless in (("finished.json", "{}"), ("provenance.json", "{}")):
        (run / other).write_text(harmless)
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text(content)
    for command, flags in {
        "predict": ["--text", "a good film"], "doctor": [], "verify": [], "evaluate": ["--force"],
        "compare": [place.b],
    }.items():  # fmt: skip
        assert_named(command, run, *flags)
