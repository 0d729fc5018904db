"""The command compares what it was asked to on the same rows, says its caveats, or refuses."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from click.testing import Result
from tests.commands_for_tests import SCRIPTS, assert_refused, script
from tests.comparisons_for_tests import FEW, LABELS, random_case
from tests.models_for_tests import tiny_bert
from tests.stored_runs_for_tests import Place, make_place, make_run, rows_csv

from textassay.artifacts.kinds import load_artifact
from textassay.config.load import resolve_job
from textassay.config.runs import Run
from textassay.data.labels import LabelMap
from textassay.data.load import load_dataset
from textassay.evaluation.compare import Comparison, align
from textassay.evaluation.contenders import RANDOM_HEAD, WARNING
from textassay.evaluation.evaluate import Evaluation, evaluate
from textassay.evaluation.metrics import confusion_metrics, confusions, score
from textassay.files import read_json, write_json
from textassay.training.run import run_training

USAGE, GATE, DATA = 2, 3, 65


def test_labels_in_another_order_are_mapped_by_name() -> None:
    truth, predicted, _ = random_case(1, 50, 3)
    table = pa.table({"label": [LABELS[index] for index in truth]})
    logits = np.eye(3)[predicted]
    theirs = LabelMap(("good", "bad", "fine"))
    order = [LABELS.index(name) for name in theirs.names]
    theirs_truth = np.array(theirs.ids(table["label"].to_pylist()))
    there = Evaluation(
        "test", theirs, table, theirs_truth, logits[:, order], 0,
        score(theirs_truth, logits[:, order], resamples=100), FEW,
    )  # fmt: skip
    here = align(there, LabelMap(LABELS))
    assert (here.predicted == predicted).all() and (here.truth == truth).all()
    matrix = confusions(here.truth, here.predicted[None], 3)
    assert confusion_metrics(matrix)["macro_f1"][0] == pytest.approx(here.scores["macro_f1"].value)
    assert align(here, LabelMap(LABELS)) is here


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The place, made once; tests that change something copy it."""
    caches = tmp_path_factory.getbasetemp() / "caches"
    return make_place(tmp_path_factory.mktemp("comparison"), caches)


@pytest.fixture
def compare(offline_folder: Path) -> Callable[..., Result]:
    """`compare(A, B, "--flag", "value")`: scripts/compare.py, in this process, in a folder."""
    return script("compare")


def results(folder: Path) -> dict[str, Any]:
    assert sorted(path.name for path in folder.iterdir()) == [
        "comparison.json", "comparison.md", "comparison.png",
    ]  # fmt: skip
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    content: dict[str, Any] = read_json(folder / "comparison.json")
    assert content["verdict"] in (folder / "comparison.md").read_text(encoding="utf-8")
    return content


def test_two_artifacts_are_compared_on_the_same_rows(
    compare: Callable[..., Result], made: Place
) -> None:
    done = compare(made.a, made.b / "model", "--output-dir", "out")
    assert done.exit_code == 0, done.stderr
    found = results(Path("out"))
    test = load_dataset(resolve_job(None, None, {}, {"data.path": str(made.data)}, "lora")[0].data)
    table = test.splits["test"]
    assert found["rows"] == {"data": "rows", "split": "test", "count": len(table)}
    for letter, run in (("a", made.a), ("b", made.b)):
        loaded = load_artifact(run / "model")
        own = evaluate(loaded, "test", table, FEW, 8, torch.device("cpu"))
        assert found[letter]["scores"]["accuracy"]["value"] == own.scores["accuracy"].value
        assert found[letter]["name"] == str(run) and found[letter]["has_hallmark"]
        assert [one["name"] for one in found[letter]["baselines"]] == ["TF-IDF", "majority"]
    gain = found["gain"]["accuracy"]["value"]
    values = [found[letter]["scores"]["accuracy"]["value"] for letter in "ab"]
    assert gain == pytest.approx(values[0] - values[1])
    assert found["bootstrap_samples"] == 100 and found["notes"] == []
    for part in (found["verdict"], "TF-IDF", "majority", "gain (A - B)", "By label"):
        assert part in done.stdout
    assert "note:" not in done.stdout


def test_an_artifact_compared_with_itself(compare: Callable[..., Result], made: Place) -> None:
    done = compare(made.a, made.a, "--split", "validation", "--output_dir", "out")
    found = results(Path("out"))
    gain = found["gain"]["macro_f1"]
    assert gain["value"] == 0 and gain["p"] == 1 and not gain["detectable"]
    assert gain["low"] < 0 < gain["high"]  # so few rows do not prove that two are the same
    assert found["mcnemar"]["p"] == 1 and found["shifts"] == []
    assert "No detectable difference between A and B" in done.stdout
    assert "Both give every row the same label." in done.stdout
    assert "Validation rows picked the checkpoints" in done.stdout


def test_without_a_second_the_untuned_base_is_the_other(
    compare: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    whole = f"{RANDOM_HEAD}: {WARNING}"
    done = compare(made.a, "--output_dir", "out", "--device", "cpu", "--batch_size", 8)
    assert done.exit_code == 0, done.stderr
    found = results(Path("out"))
    assert found["b"]["name"] == whole and found["b"]["untuned"] and found["b"]["baselines"] == []
    assert RANDOM_HEAD in done.stdout and f"{whole}.\n" in done.stdout
    assert whole in (Path("out") / "comparison.md").read_text()
    again = compare(made.a, "--output_dir", "again")
    assert again.exit_code == 0
    assert read_json(Path("again/comparison.json"))["b"] == found["b"]  # the head is seeded
    full = make_run(tmp_path / "full", made.base, made.data, 0, method="full")
    assert compare(full, "--output_dir", "of-full").exit_code == 0
    other = read_json(Path("of-full/comparison.json"))["b"]
    assert other["scores"] == found["b"]["scores"] and other["base"] == found["b"]["base"]


def test_the_order_of_labels_does_not_matter(
    compare: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    """The same weights, their rows of the head in another order, make the same predictions."""
    turned = shutil.copytree(made.a, tmp_path / "turned") / "model"
    (turned / "hallmark.json").unlink()
    order = [2, 0, 1]
    names = [LABELS[index] for index in order]
    config = read_json(turned / "config.json")
    config["id2label"] = {str(index): name for index, name in enumerate(names)}
    config["label2id"] = {name: index for index, name in enumerate(names)}
    write_json(turned / "config.json", config)
    write_json(turned / "label_mapping.json", LabelMap(tuple(names)).to_json())
    from safetensors.torch import load_file, save_file

    weights = load_file(turned / "adapter_model.safetensors")
    for key in [key for key in weights if "classifier" in key]:
        weights[key] = weights[key][order].contiguous()
    save_file(weights, turned / "adapter_model.safetensors", {"format": "pt"})
    done = compare(made.a, turned.parent, "--output_dir", "out")
    assert done.exit_code == 0, done.stderr
    found = results(Path("out"))
    assert found["shifts"] == [] and found["gain"]["accuracy"]["value"] == 0
    assert found["labels"] == list(LABELS)
    assert "note: B carries no hallmark" in done.stdout and not found["b"]["has_hallmark"]


def test_different_data_are_said_and_rows_in_training_are_counted(
    compare: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    lines = made.data.read_text().splitlines()
    other.write_text("\n".join([lines[0], *reversed(lines[1:])]))
    b = make_run(tmp_path / "b", made.base, other, 1)
    done = compare(made.a, b, "--output_dir", "out")
    notes = " ".join(results(Path("out"))["notes"])
    assert "A and B were trained on different data, or on different splits of it" in notes
    assert "training rows of A" not in notes
    assert "rows compared here have a text that stands in the training rows of B, so" in notes
    assert done.stdout.count("note:") == 2
    other.write_text(rows_csv(5))
    for sides in ((made.a, b), (b, made.a)):
        changed = compare(*sides, "--output_dir", "changed")
        assert changed.exit_code == DATA and "changed since it was trained" in changed.stderr
    rows = ("--data_path", made.data)
    assert compare(made.a, b, *rows, "--output_dir", "named").exit_code == 0
    other.unlink()
    compare(made.a, b, "--output_dir", "out", "--force")
    assert "The training rows of B are not at hand" in results(Path("out"))["notes"][1]


def test_a_file_is_used_whole(compare: Callable[..., Result], made: Place) -> None:
    Path("new.csv").write_text(rows_csv(9).replace("text,label", "what,kind"))
    flags = ("--data_path", "new.csv", "--text_column", "what", "--label-column", "kind")
    done = compare(made.a, made.b, *flags, "--output_dir", "out")
    assert done.exit_code == 0, done.stderr
    found = results(Path("out"))
    assert found["rows"] == {"data": "new.csv", "split": None, "count": 60}
    assert found["a"]["baselines"] == []
    assert [note.split(" ")[0] for note in found["notes"]] == ["0", "0", "No"]
    assert "note: No baselines" in done.stdout
    compare(made.a, made.b, "--data_path", made.data, "--output_dir", "seen")
    train = 60 - 6 - 9
    assert read_json(Path("seen/comparison.json"))["notes"][0] == (
        f"{train} of the 60 rows compared here have a text that stands in the training rows of A, "
        "so they flatter A."
    )


def test_a_bare_artifact_is_compared_on_other_data(
    compare: Callable[..., Result], made: Place
) -> None:
    shutil.copytree(made.a / "model", "bare")
    Path("data").mkdir()
    for split in ("train", "test"):
        Path(f"data/{split}.csv").write_text(rows_csv(len(split), rows=30))
    done = compare("bare", made.b, "--data_path", "data", "--output_dir", "out")
    assert done.exit_code == 0, done.stderr
    found = results(Path("out"))
    assert found["rows"] == {"data": "data", "split": "test", "count": 30}
    assert found["a"]["name"] == "bare" and len(found["a"]["baselines"]) == 2
    assert "The training rows of A are not at hand" in found["notes"][0]


def test_the_base_of_both_may_have_moved(compare: Callable[..., Result], made: Place) -> None:
    shutil.copytree(made.a, "a")
    shutil.copytree(made.base, "moved")
    settings = Path("a/model/adapter_config.json")
    content = read_json(settings)
    write_json(settings, {**content, "base_model_name_or_path": "nowhere"})
    Path("a/model/hallmark.json").unlink()
    assert_refused(compare("a"), USAGE, "nowhere")
    assert compare("a", made.b, "--base_model_path", "moved").exit_code == 0
    assert compare("a", "--base-model-path", "moved").exit_code == 0


def test_output_is_replaced_only_by_force(compare: Callable[..., Result], made: Place) -> None:
    Path("out").mkdir()
    Path("out/comparison.md").write_text("mine")
    refused = compare(made.a, made.a, "--output_dir", "out")
    assert_refused(refused, USAGE, "out: comparison.md is there already", "--force")
    assert [path.name for path in Path("out").iterdir()] == ["comparison.md"]
    assert compare(made.a, made.a, "--output_dir", "out", "--force").exit_code == 0
    results(Path("out"))
    assert_refused(compare(made.a, "--output_dir", "out/comparison.md"), USAGE, "is a file")


def test_files_appear_all_or_none(
    compare: Callable[..., Result], made: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Comparison) -> None:
        raise RuntimeError("no picture today")

    monkeypatch.setattr("textassay.evaluation.comparison_report.draw_comparison", fail)
    done = compare(made.a, made.a, "--output_dir", "out")
    assert str(done.exception) == "no picture today"
    assert list(Path("out").iterdir()) == []


def relabelled(made: Place, folder: Path) -> Path:
    """A copy of A that says `great` instead of `good`."""
    copy = shutil.copytree(made.a, folder)
    for name in ("config.json", "label_mapping.json"):
        path = copy / "model" / name
        path.write_text(path.read_text().replace('"good"', '"great"'))
    (copy / "model" / "hallmark.json").unlink()
    return copy


def test_what_cannot_be_compared_is_refused(compare: Callable[..., Result], made: Place) -> None:
    shutil.copytree(made.a / "model", "bare")
    refused = compare("bare", made.b)
    assert_refused(refused, USAGE, "bare: stands in no run", "--data_path")
    assert_refused(compare("nowhere", made.b), USAGE, "nowhere: there is no such directory")
    assert_refused(compare(made.a, made.data.parent), USAGE, "is no artifact", "model/")
    shutil.copytree(made.a, "unfinished", ignore=lambda _, names: {"model"} & set(names))
    assert_refused(compare("unfinished"), USAGE, "unfinished: is a run without model/")
    other = relabelled(made, Path("other"))
    refused = compare(made.a, other)
    assert_refused(refused, USAGE, f"only {made.a} has 'good'; only other has 'great'")
    text = Path(shutil.copytree(made.a, "odd")) / "config.yaml"
    text.write_text(text.read_text().replace("on_bad_rows: error", "on_bad_rows: cry"))
    assert_refused(compare("odd"), USAGE, "config.yaml: on_bad_rows is not what this version")


def test_rows_that_cannot_be_compared_on_are_refused(
    compare: Callable[..., Result], made: Place
) -> None:
    assert_refused(compare(made.a, "--text_column", "x"), USAGE, "--text_column", "--data_path")
    refused = compare(made.a, "--data_path", made.data, "--split", "test")
    assert_refused(refused, USAGE, "is a file, which is used whole")
    Path("strange.csv").write_text("text,label\na film,good\nanother film,great\n")
    refused = compare(made.a, "--data_path", "strange.csv")
    assert_refused(refused, DATA, "strange.csv, line 3: the label 'great'", "bad, fine, good")
    assert_refused(compare(made.a, "--data_path", "none.csv"), DATA, "none.csv")
    assert_refused(compare(made.a, "--data_name", "nobody"), USAGE, "'nobody' is not in")


def test_what_is_not_what_its_hallmark_says_is_refused(
    compare: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    shutil.copytree(made.a, "changed")
    with Path("changed/model/config.json").open("a") as stream:
        stream.write("\n")
    refused = compare(made.b, "changed")
    assert_refused(refused, GATE, "config.json was changed after it was stamped")
    other = tiny_bert(tmp_path / "other", [rows_csv(3), "more words to know"])
    assert_refused(compare(made.a, "--base_model_path", other), GATE, "base")
    full = make_run(tmp_path / "full", made.base, made.data, 0, method="full")
    refused = compare(full, "--base_model_path", other)
    assert_refused(refused, GATE, "another hash than the stamped base")


def test_a_full_model_whose_base_nobody_names_is_refused(
    compare: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    full = make_run(tmp_path / "full", made.base, made.data, 0, method="full")
    bare = shutil.copytree(full / "model", tmp_path / "bare")
    (bare / "hallmark.json").unlink()
    refused = compare(bare, "--data_path", made.data)
    assert_refused(refused, USAGE, "what its base is", "--base_model_path")
    done = compare(bare, "--data_path", made.data, "--base_model_path", made.base)
    assert done.exit_code == 0, done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which would be used")
def test_a_gpu_that_is_not_there_is_refused(compare: Callable[..., Result], made: Place) -> None:
    assert_refused(compare(made.a, made.b, "--device", "cuda"), USAGE, "cuda was asked for")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import runpy, sys\nsys.argv = ['compare.py', '--help']\n"
        f"try: runpy.run_path({str(SCRIPTS / 'compare.py')!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'matplotlib', 'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--base_model_path" in done.stdout and done.stdout.endswith("[]\n")


@pytest.mark.slow
def test_the_figures_are_those_of_the_run(compare: Callable[..., Result], made: Place) -> None:
    """Of a run that was trained, its own test results come out again, to the last digit."""
    given = {
        "data.path": str(made.data), "model.model_name_or_path": str(made.base),
        "model.max_seq_length": 32, "training.max_steps": 4, "method.target_modules": "query",
        "evaluation.bootstrap_samples": 150, "evaluation.probe_rows": 2,
    }  # fmt: skip
    job, _ = resolve_job(None, None, {}, given, "lora")
    run_training(Run(job, 0, Path("run")))
    assert compare("run", made.b, "--output_dir", "out").exit_code == 0
    found, wanted = results(Path("out")), json.loads(Path("run/test_results.json").read_text())
    for name, one in found["a"]["scores"].items():
        assert one["value"] == wanted[f"test_{name}"], name
        assert [one["low"], one["high"]] == wanted["intervals"][name], name
    assert found["a"]["baselines"] == wanted["baselines"] and found["notes"] == []


def test_a_base_that_is_a_classifier_keeps_its_head(
    compare: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    """A model tuned on, and its base with the same labels in another order."""
    base = make_run(tmp_path / "base", made.base, made.data, 0, ("good", "bad", "fine"), "full")
    full = make_run(tmp_path / "full", base / "model", made.data, 1, method="full")
    assert compare(full, "--output_dir", "out").exit_code == 0
    found = results(Path("out"))
    assert found["b"]["name"] == "untuned base (its own head)"
    assert found["b"]["baselines"] and "random" not in json.dumps(found)
    assert compare(base, "--output_dir", "own").exit_code == 0
    assert found["b"]["scores"] == results(Path("own"))["a"]["scores"]


def test_a_base_that_calls_its_labels_otherwise_is_said_to(
    compare: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    base = make_run(tmp_path / "base", made.base, made.data, 0, method="full") / "model"
    for name in ("hallmark.json", "label_mapping.json"):
        (base / name).unlink()
    config = read_json(base / "config.json")
    write_json(base / "config.json", {
        **config, "id2label": {str(i): f"LABEL_{i}" for i in range(3)},
        "label2id": {f"LABEL_{i}": i for i in range(3)},
    })  # fmt: skip
    full = make_run(tmp_path / "full", base, made.data, 1, method="full")
    done = compare(full)
    assert done.exit_code == 0, done.output
    assert "(its own head, which calls the labels LABEL_0, LABEL_1, LABEL_2)" in done.output


def test_an_artifact_is_no_place_for_a_comparison(
    compare: Callable[..., Result], made: Place
) -> None:
    for artifact, place in ((made.a, made.a / "model"), (made.b, made.b / "model" / "out")):
        refused = compare(made.a, made.b, "--output_dir", place)
        assert_refused(refused, USAGE, f"lies in the artifact {artifact / 'model'}")
        assert compare(made.a, made.b).exit_code == 0, "their hallmarks still hold"


def test_training_rows_with_a_label_of_their_own_teach_no_baseline(
    compare: Callable[..., Result], made: Place
) -> None:
    Path("data").mkdir()
    strange = "".join(f"odd {number},martian\n" for number in range(4))
    for split, more in (("train", strange), ("test", "")):
        Path(f"data/{split}.csv").write_text(rows_csv(len(split), rows=30) + more)
    done = compare(made.a, made.b, "--data_path", "data", "--output_dir", "out")
    assert done.exit_code == 0, done.stderr
    assert "labels the artifact does not know: 'martian'" in " ".join(done.output.split())
    assert len(results(Path("out"))["a"]["baselines"]) == 2
