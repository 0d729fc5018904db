"""`scripts/predict.py MODEL --input FILE --output FILE`, with a tiny real model."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.commands_for_tests import assert_refused, everything, go_offline, script, write_all
from tests.prediction.answering import (
    FORMATS,
    NASTY,
    make_classifier,
    predicted_in,
    texts_of,
    write_table,
)

import textassay
from textassay.data.read import read_file
from textassay.prediction import files, parts, rows

USAGE, GATE, DATA = 2, 3, 65
predict = script("predict")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return make_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="session")
def classifier(model):
    return textassay.Classifier.load(model, threads=1)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rows, "WINDOW_ROWS", 10)
    go_offline(monkeypatch, tmp_path_factory.getbasetemp() / "caches")


def done(result):
    """The line that a prediction which went well ends with."""
    assert result.exception is None or result.exit_code == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_row_gets_the_answer_that_python_gives_in_its_place(suffix, model, classifier):
    texts = texts_of(47)
    write_table(Path(f"in.{suffix}"), {"id": [str(n) for n in range(47)], "text": texts})
    said = done(predict(model, "--input", f"in.{suffix}", "--output", f"out/of.{suffix}"))
    assert said.startswith(f"predicted  out/of.{suffix}: 47 rows (")
    wanted = classifier.predict(texts)
    assert len({answer["label"] for answer in wanted}) == 3
    found = read_file(Path(f"out/of.{suffix}")).columns
    assert found["predicted"].to_pylist() == [answer["label"] for answer in wanted]
    scores = [float(score) for score in found["score"].to_pylist()]
    assert scores == pytest.approx([answer["score"] for answer in wanted], abs=1e-5)
    assert found["id"].to_pylist() == [str(n) for n in range(47)]
    assert os.listdir("out") == [f"of.{suffix}"]  # noqa: PTH208


def test_nasty_texts_are_answered_and_kept(model, classifier):
    write_table(Path("in.jsonl"), {"text": list(NASTY.values()), "kind": list(NASTY)})
    done(predict(model, "--input", "in.jsonl", "--output", "out.jsonl"))
    back = [json.loads(line) for line in Path("out.jsonl").read_text("utf-8").split("\n") if line]
    assert {item["kind"]: item["text"] for item in back} == NASTY
    for item, answer in zip(back, classifier.predict(list(NASTY.values())), strict=True):
        assert item["predicted"] == answer["label"]
        assert item["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-5)


@pytest.mark.slow
def test_a_text_of_nearly_a_million_letters_is_answered_and_said_to_be_cut(model, classifier):
    long = "a good film " * 83_000
    write_table(Path("in.jsonl"), {"text": ["short", long]})
    result = predict(model, "--input", "in.jsonl", "--output", "out.parquet")
    done(result)
    assert "cut off where they fill all that the model reads: 1 text" in result.stderr
    assert read_file(Path("out.parquet")).columns["text"][1].as_py() == long
    assert predicted_in(Path("out.parquet"))[1] == classifier.predict(long[:1000])["label"]


def test_below_the_threshold_the_answer_is_abstain(model, classifier):
    texts = texts_of(30)
    write_table(Path("in.csv"), {"text": texts})
    scores = [answer["score"] for answer in classifier.predict(texts)]
    middle = sorted(scores)[15]
    done(
        predict(
            model, "--input", "in.csv", "--output", "out.csv", "--threshold", middle, "--top-k", 2
        )
    )
    found = predicted_in(Path("out.csv"))
    assert [name == "abstain" for name in found] == [round(s, 6) < middle for s in scores]
    assert list(read_file(Path("out.csv")).columns)[3:] == [
        "label 1", "probability 1", "label 2", "probability 2"
    ]  # fmt: skip


BAD = '{"text": "a"}\n{broken\n{"text": "b"}\n{"text": null}\n{"text": "\\ud83d"}\n'


def test_rows_that_cannot_be_used_stop_it_before_anything_is_written(model):
    Path("in.jsonl").write_text(BAD)
    before = everything()
    result = predict(model, "--input", "in.jsonl", "--output", "out.jsonl")
    says = ["3 rows cannot be used", "in.jsonl, line 2: is not valid", "line 4: has no text",
            "line 5: holds half", "--on_bad_rows skip"]  # fmt: skip
    assert_refused_after_notes(result, DATA, *says)
    assert everything() == before


@pytest.mark.parametrize("target", FORMATS)
def test_rows_that_cannot_be_used_are_kept_without_an_answer_if_told_so(target, model):
    Path("in.jsonl").write_text(BAD)
    result = predict(
        model, "--input", "in.jsonl", "--output", f"out.{target}", "--on_bad_rows", "skip"
    )
    assert "no answer 3" in done(result) and "3 rows without an answer" in result.stderr
    back = read_file(Path(f"out.{target}")).columns
    assert [bool(name) for name in back["predicted"].to_pylist()] == [
        True,
        False,
        True,
        False,
        False,
    ]
    problems = back["problem"].to_pylist()
    assert not problems[0] and "in.jsonl, line 2: is not valid JSON" in problems[1]
    assert "half of a surrogate" in problems[4]


def assert_refused_after_notes(result, exit_code, *says):
    """The last line is the error; before it stands which artifact answers, and the like."""
    *notes, last = result.stderr.splitlines(keepends=True)
    assert not any(note.startswith("error") for note in notes)
    assert_refused(type("Result", (), {
        "exception": result.exception, "stderr": last, "stdout": result.stdout,
        "exit_code": result.exit_code,
    })(), exit_code, *says)  # fmt: skip


REFUSED = {
    "no input": (["nowhere.csv", "out.csv"], DATA, "nowhere.csv: there is no such file"),
    "a folder": (["folder.csv", "out.csv"], DATA, "folder.csv: there is no such file"),
    "empty": (["empty.csv", "out.csv"], DATA, "empty.csv: is empty"),
    "header only": (["head.csv", "out.csv"], DATA, "has a header but no rows"),
    "no text column": (["strange.csv", "out.csv"], DATA, "--text_column"),
    "another format": (["in.xlsx", "out.csv"], DATA, "is none of"),
    "output is the input": (
        ["in.csv", "./in.csv"],
        USAGE,
        "is the input, which is never written to",
    ),
    "output is there": (["in.csv", "empty.csv"], USAGE, "empty.csv: is there already", "--force"),
    "output has no format": (["in.csv", "/dev/full"], USAGE, "/dev/full: ends in none of"),
    "output in proc": (["in.csv", "/proc/x/out.csv"], 1, "/proc/x/out.csv"),
    "output below a file": (["in.csv", "empty.csv/out.csv"], 1, "empty.csv/out.csv"),
    "no output": (["in.csv", None], USAGE, "name an --output"),
    "a clash": (["score.csv", "out.csv"], USAGE, "has a column 'score' already", "--prefix"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_and_leaves_nothing_behind(case, model):
    (source, output), exit_code, *says = REFUSED[case]
    write_all({
        "in.csv": "text\na\n", "empty.csv": "", "head.csv": "text\n", "in.xlsx": "PK",
        "strange.csv": "x,y\n1,2\n", "score.csv": "text,score\na,1\n",
    })  # fmt: skip
    Path("folder.csv").mkdir()
    before = everything()
    flags = ["--input", source, *(["--output", output] if output else [])]
    assert_refused_after_notes(predict(model, *flags), exit_code, *says)
    assert everything() == before


def test_an_output_that_is_there_is_replaced_only_by_force(model):
    write_table(Path("in.csv"), {"text": ["a", "b"]})
    Path("out.csv").write_text("mine")
    assert predict(model, "--input", "in.csv", "--output", "out.csv").exit_code == USAGE
    assert Path("out.csv").read_text() == "mine"
    done(predict(model, "--input", "in.csv", "--output", "out.csv", "--force"))
    assert len(predicted_in(Path("out.csv"))) == 2


def spoil(folder, case):
    if case == "empty directory":
        shutil.rmtree(folder)
        folder.mkdir()
    elif case == "no weights":
        (folder / "model.safetensors").unlink()
    elif case == "truncated weights":
        os.truncate(folder / "model.safetensors", 5000)
    elif case == "truncated tokenizer":
        os.truncate(folder / "tokenizer.json", 500)
    elif case == "other labels":
        config = (folder / "config.json").read_text().replace('"good"', '"better"')
        (folder / "config.json").write_text(config)


@pytest.mark.parametrize(("case", "exit_code"), [
    ("empty directory", USAGE), ("no weights", GATE), ("truncated weights", GATE),
    ("truncated tokenizer", GATE), ("other labels", GATE),
])  # fmt: skip
@pytest.mark.parametrize("way", ["text", "file"])
def test_a_model_that_is_not_whole_answers_nothing(case, exit_code, way, model):
    shutil.copytree(model, "broken")
    spoil(Path("broken"), case)
    Path("in.csv").write_text("text\na\n")
    before = everything()
    flags = ["--text", "a"] if way == "text" else ["--input", "in.csv", "--output", "out.csv"]
    assert_refused_after_notes(predict("broken", *flags), exit_code, "broken")
    assert everything() == before


def begin(model, at, monkeypatch, **more):
    """A prediction of `in.csv` that dies behind part `at`, as if pulled from the machine."""
    write = files.write_part

    def dying(path, *arguments):
        if path.name == f"{at:07d}":
            raise SystemExit(137)
        write(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_part", dying)
        result = predict(model, "--input", "in.csv", "--output", "out.csv", *more.get("flags", []))
    assert result.exit_code == 137 and not Path("out.csv").exists()


def go_on(model, *flags):
    result = predict(model, "--input", "in.csv", "--output", "out.csv", *flags)
    done(result)
    assert sorted(path.name for path in Path().glob("*out*")) == ["out.csv"]
    return result.stderr


@pytest.mark.parametrize("at", [1, 3, 4])
def test_a_prediction_goes_on_where_it_stopped_and_ends_with_the_same_bytes(at, model, monkeypatch):
    write_table(Path("in.csv"), {"text": texts_of(45)})
    done(predict(model, "--input", "in.csv", "--output", "whole.csv"))
    begin(model, at, monkeypatch)
    assert f"goes on after {10 * at} of 45 rows" in go_on(model)
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()


@pytest.mark.parametrize("changed", ["input", "model", "settings"])
def test_it_starts_over_where_something_else_is_asked(changed, model, monkeypatch):
    texts = texts_of(45)
    write_table(Path("in.csv"), {"text": texts})
    shutil.copytree(model, "mine")
    begin("mine", 3, monkeypatch)
    flags = []
    if changed == "input":
        write_table(Path("in.csv"), {"text": texts[::-1]})
    elif changed == "model":
        (Path("mine") / "hallmark.json").write_text((model / "hallmark.json").read_text() + "\n")
    else:
        flags = ["--top_k", "1"]
    said = go_on("mine", *flags)
    assert "starts over" in said and changed in said and "goes on" not in said
    done(predict("mine", "--input", "in.csv", "--output", "whole.csv", *flags))
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounting needs root")
def test_a_full_disk_is_named_and_what_was_done_is_not_lost(model, tmp_path):
    disk = tmp_path / "small"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        write_table(Path("in.csv"), {"text": texts_of(500)})
        flags = ["--input", "in.csv", "--output", "small/out.csv"]
        result = predict(model, *flags)
        message = "small/out.csv: cannot be written (no space left on device)"
        assert_refused_after_notes(result, 1, message)
        assert not Path("small/out.csv").exists()
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        again = predict(model, *flags)
        assert "500 rows" in done(again) and "goes on after" in again.stderr
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_two_processes_do_not_write_the_same_file(model):
    write_table(Path("in.csv"), {"text": ["a"]})
    with parts.parts_of(Path("out.csv"), {}):
        result = predict(model, "--input", "in.csv", "--output", "out.csv")
        assert_refused_after_notes(result, USAGE, "out.csv: is being written by another process")
    assert "predicted" in done(predict(model, "--input", "in.csv", "--output", "out.csv"))


def test_a_neighbours_link_in_the_place_of_the_parts_is_not_followed(model):
    write_table(Path("in.csv"), {"text": ["a"]})
    Path("mine").mkdir()
    Path("mine/lock").write_text("precious")
    flags = ("--input", "in.csv", "--output", "out.csv")
    Path(".out.csv.parts").symlink_to("mine")
    assert_refused_after_notes(predict(model, *flags), USAGE, "is a link or another user's")
    Path(".out.csv.parts").unlink()
    Path(".out.csv.parts").mkdir()
    Path(".out.csv.parts/lock").symlink_to("../mine/lock")
    result = predict(model, *flags)
    assert result.exit_code and Path("mine/lock").read_text() == "precious"
    assert "Traceback" not in result.stderr


def test_a_classifier_by_its_hub_name_is_asked_and_said_to_prove_nothing(
    model, classifier, monkeypatch
):
    """In a hub cache laid out by hand, as somebody else has saved it."""
    cached = Path("hub/models--org--classifier")
    shutil.copytree(model, cached / "snapshots" / "abc123")
    for name in ("hallmark.json", "label_mapping.json"):
        (cached / "snapshots" / "abc123" / name).unlink()
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(Path("hub").absolute()))
    write_table(Path("in.csv"), {"text": texts_of(5)})
    result = predict("org/classifier", "--input", "in.csv", "--output", "out.csv")
    done(result)
    assert "carries no hallmark" in result.stderr
    wanted = [answer["label"] for answer in classifier.predict(texts_of(5))]
    assert predicted_in(Path("out.csv")) == wanted
    unknown = predict("org/nothing", "--text", "a")
    assert_refused(unknown, USAGE, "org/nothing cannot be had", "HF_HUB_OFFLINE is set")


def test_a_run_is_asked_through_the_artifact_that_is_named(model, classifier):
    write_table(Path("in.csv"), {"text": ["a good film"]})
    run = Path("runs/job/seed-0")
    shutil.copytree(model, run / "model")
    (run / "config.yaml").write_text("fingerprint: x\n")
    asked = ["--text", "a good film"]
    label = classifier.predict("a good film")["label"]
    result = predict(run, *asked)
    assert json.loads(result.stdout)["predicted"] == label
    assert "seed-0: its model/ answers" in result.stderr
    says = ["has no onnx/ (there is model)", "textassay export"]
    assert_refused(predict(run, *asked, "--backend", "onnx"), USAGE, *says)
    assert_refused(predict("runs/job", *asked), USAGE, "holds the runs seed-0")
    assert_refused(predict(model, *asked, "--backend", "merged"), USAGE, "is no run")
    shutil.copytree(model, run / "onnx-int8")
    assert (
        "its onnx-int8/ answers" in predict(run / "model", *asked, "--backend", "onnx-int8").stderr
    )
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "onnx-int8")
    assert_refused(predict(run, *asked), USAGE, "has no model/ yet")
