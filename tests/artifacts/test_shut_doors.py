"""Other people's classifiers from every door that refuses: by the cause, and nothing is written."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.commands_for_tests import go_offline, paragraph, script
from tests.foreign_artifacts_for_tests import (
    TEXTS,
    Made,
    adapter,
    changed,
    in_adapter,
)
from tests.foreign_doors_for_tests import (
    DOORS,
    NEWTOK,
    NO_ANSWER,
    ONNX,
    OPEN,
    SHUT,
    asked,
    assert_refused,
    make_each_once,
    write_rows,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """made(name): an artifact of OPEN or SHUT, made once."""
    return make_each_once(tmp_path_factory.mktemp("theirs"))


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    go_offline(monkeypatch, tmp_path / "caches")


@pytest.mark.parametrize("name", OPEN)
def test_doctor_finds_nothing_wrong_and_verify_nothing_to_hold_it_to(
    name: str, made: Callable[[str], Made]
) -> None:
    examined = script("doctor")(made(name).folder)
    assert examined.exit_code == 0, examined.output
    assert_refused(script("verify")(made(name).folder), "carries no hallmark")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", SHUT)
def test_every_door_refuses_by_the_cause_and_writes_nothing(
    name: str, door: str, made: Callable[[str], Made]
) -> None:
    Path("rows.csv").write_text("text,label\na good film,good\nok,bad\n")
    folder = made(name).folder
    before = {path for place in (Path(), folder.parent) for path in place.rglob("*")}
    result = script(door.split()[0])(*DOORS[door](folder))
    causes = SHUT[name][1].replace(".*", "|").replace("\\", "").split("|")
    if door == "doctor":
        assert result.exit_code == NO_ANSWER and "one thing is wrong" in result.stderr
        assert any(cause.strip() in " ".join(result.stdout.split()) for cause in causes)
    else:
        assert_refused(result, *(cause.strip() for cause in causes))
    after = {path for place in (Path(), folder.parent) for path in place.rglob("*")}
    assert {path for path in after - before if "caches" not in path.parts} == set()


@pytest.mark.parametrize("form", ["merged", "onnx", "onnx-int8"])
@pytest.mark.parametrize("name", ONNX)
def test_somebody_s_graph_is_not_exported_once_more(
    name: str, form: str, made: Callable[[str], Made]
) -> None:
    rows = write_rows([text for text in asked(name) if text], made(name))
    told = ["--to", form, "--data_path", rows, "--output_dir", "out"]
    causes = ("is no adapter", "is onnx already", "was not exported by textassay")
    assert_refused(script("export")(made(name).folder, *told), *causes)
    assert not Path("out").exists()


def test_every_door_refuses_a_text_with_a_token_that_was_not_saved(tmp_path: Path) -> None:
    folder = NEWTOK(tmp_path / "it").folder
    others = [text for text in TEXTS if "NEWTOK" not in text]
    for file, texts in (("all.jsonl", TEXTS), ("others.jsonl", others)):
        rows = [{"text": text, "label": ("bad", "good")[n % 2]} for n, text in enumerate(texts)]
        Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    for door, arguments in (
        ("predict", ["--text", "NEWTOK is new"]),
        ("predict", ["--input", "all.jsonl", "--output", "answers.jsonl"]),
        ("evaluate", ["--data_path", "all.jsonl", "--output_dir", "tested"]),
        ("compare", [folder, "--data_path", "all.jsonl"]),
        ("export", ["--to", "onnx", "--data_path", "all.jsonl", "--output_dir", "onnx"]),
        ("export", ["--to", "merged", "--data_path", "all.jsonl", "--output_dir", "merged"]),
    ):
        result = script(door)(folder, *arguments)
        assert result.exit_code == 65, result.output
        assert "has the token 'NEWTOK'" in paragraph(result.stderr[result.stderr.index("error:") :])
    assert not {"answers.jsonl", "tested", "onnx", "merged"} & {p.name for p in Path().iterdir()}
    done = script("predict")(folder, "--input", "others.jsonl", "--output", "answers.jsonl")
    assert done.exit_code == 0, done.output


def test_every_door_says_which_setting_of_a_newer_peft_is_ignored(tmp_path: Path) -> None:
    it = changed(adapter(), in_adapter(use_superscale=True, peft_version="0.99.0"))(tmp_path / "it")
    Path("rows.csv").write_text("text,label\na good film,good\nok,bad\n")
    for door in ("predict", "predict a file", "evaluate", "compare", "export to merged"):
        result = script(door.split()[0])(*DOORS[door](it.folder))
        assert result.exit_code == 0, result.output
        assert "does not know use_superscale=True" in " ".join(result.stderr.split()), door
    assert "use_superscale=True" in " ".join(script("doctor")(it.folder).output.split())
