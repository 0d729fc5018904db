"""The evaluator says what lies there, loads it strictly, and writes what a run writes."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import transformers
import yaml
from click.testing import Result
from safetensors.torch import load_file, save_file
from tests.commands_for_tests import assert_refused, script
from tests.comparisons_for_tests import LABELS
from tests.stored_runs_for_tests import Place, make_place, rows_csv

from textassay.files import read_json, write_json

USAGE, GATE, DATA = 2, 3, 65
FILES = {
    "all_results.json", "confusion_matrix.png", "label_mapping.json", "predictions.parquet",
    "reliability.png", "report.html", "test_results.json", "test_summary.txt",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Runs of an adapter (a) and of a whole model (b) on the same data; not to be changed."""
    caches = tmp_path_factory.getbasetemp() / "caches"
    return make_place(tmp_path_factory.mktemp("evaluation"), caches, "full")


@pytest.fixture
def evaluate(offline_folder: Path) -> Callable[..., Result]:
    """`evaluate(PLACE, "--flag", "value")`: scripts/evaluate.py, in this process, in a folder."""
    return script("evaluate")


def figures(folder: Path) -> dict[str, Any]:
    assert {path.name for path in folder.iterdir()} == FILES
    content: dict[str, Any] = read_json(folder / "test_results.json")
    rows = pq.read_table(folder / "predictions.parquet")
    assert len(rows) == content["test_rows"]
    labels, predicted = rows["label"].to_pylist(), rows["predicted"].to_pylist()
    right = [one == other for one, other in zip(labels, predicted, strict=True)]
    assert content["test_accuracy"] == pytest.approx(sum(right) / len(right))
    return content


@pytest.mark.parametrize(("which", "kind"), [("a", "adapter"), ("b", "model")])
def test_an_artifact_is_named_and_evaluated_on_its_own_test_rows(
    which: str, kind: str, evaluate: Callable[..., Result], made: Place
) -> None:
    run = getattr(made, which)
    done = evaluate("--checkpoint_dir", run / "model", "--output_dir", "out")
    assert done.exit_code == 0, done.output
    assert f"what       {kind}: {run / 'model'}" in done.stderr
    found = figures(Path("out"))
    assert [one["name"] for one in found["baselines"]] == ["TF-IDF", "majority"]
    assert found["hallmark"].startswith("sha256:") and found["bootstrap_samples"] == 100
    assert found["verdict"] in done.stdout and "TF-IDF" in done.stdout


def test_the_temperature_of_an_artifact_is_applied(
    evaluate: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    warm = Path(shutil.copytree(made.b / "model", tmp_path / "warm"))
    (warm / "hallmark.json").unlink()
    config = read_json(warm / "config.json")
    config["textassay"]["temperature"] = 4.0
    write_json(warm / "config.json", config)
    for number, place in enumerate((made.b / "model", warm)):
        done = evaluate(place, "--data_path", made.data, "--output_dir", f"out{number}")
        assert done.exit_code == 0, done.output
    raw, found = figures(Path("out0")), figures(Path("out1"))
    assert raw["calibration"] is None and found["calibration"]["temperature"] == 4
    assert found["test_macro_f1"] == raw["test_macro_f1"]
    for name in ("log_loss", "ece"):
        assert found["calibration"]["before"][name]["value"] == raw[f"test_{name}"]
        assert found["calibration"]["after"][name]["value"] == found[f"test_{name}"]
        assert found[f"test_{name}"] != raw[f"test_{name}"]
    assert "Calibrated, temperature 4: log_loss" in done.stdout
    rows = [pq.read_table(Path(out) / "predictions.parquet") for out in ("out0", "out1")]
    assert rows[0]["predicted"] == rows[1]["predicted"]
    assert max(rows[1]["score"].to_pylist()) < max(rows[0]["score"].to_pylist())
    for out, says in (("out0", "no, the artifact has no"), ("out1", "temperature 4, as the")):
        assert says in (Path(out) / "report.html").read_text()
    config["textassay"]["temperature"] = -1
    write_json(warm / "config.json", config)
    refused = evaluate(warm, "--data_path", made.data, "--output_dir", "out")
    assert_refused_at_the_end(refused, GATE, "temperature is -1")


def test_the_usual_folder_is_beside_the_artifact_and_not_written_twice(
    evaluate: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(made.a, tmp_path / "run"))
    assert evaluate(run / "model").exit_code == 0
    figures(run / "evaluation")
    again = evaluate(run / "model")
    assert_refused(again, USAGE, "test_results.json is there already", "--force")
    before = (run / "evaluation" / "test_results.json").stat().st_mtime_ns
    kept = evaluate(run / "model", "--skip_existing")
    assert kept.exit_code == 0 and "is there already; --force replaces it" in kept.stderr
    assert (run / "evaluation" / "test_results.json").stat().st_mtime_ns == before
    assert evaluate(run / "model", "--force", "--skip_existing").exit_code == 0
    assert (run / "evaluation" / "test_results.json").stat().st_mtime_ns > before
    inside = evaluate(run / "model", "--output_dir", run / "model" / "out")
    assert_refused(inside, USAGE, "lies in the artifact")


def test_results_get_neither_into_artifacts_nor_into_other_runs(
    evaluate: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    a, b = (Path(shutil.copytree(run, tmp_path / run.name)) for run in (made.a, made.b))
    for target, says in ((b / "model", "lies in the artifact"), (b, "is a run, whose own results")):
        refused = evaluate(a, "--output_dir", target)
        assert_refused(refused, USAGE, says)
    other = evaluate(b, "--data_path", made.data, "--output_dir", b)
    assert_refused(other, USAGE, "is a run, whose own results")
    (a / "finished.json").write_text("{}")
    assert evaluate(a, "--model_max_length", "8").exit_code == 0
    assert figures(a / "evaluation-length-8")["test_rows"]
    assert not (a / "test_results.json").exists()
    elsewhere = evaluate(a, "--output_dir", "out")
    assert elsewhere.exit_code == 0 and figures(Path("out")), elsewhere.output


def test_training_rows_with_labels_of_their_own_are_no_baseline(
    evaluate: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "train.csv").write_text(rows_csv(3) + "".join(f"odd {n},martian\n" for n in range(9)))
    for split in ("validation", "test"):
        (rows / f"{split}.csv").write_text(rows_csv(4 + len(split), rows=12))
    done = evaluate(made.b / "model", "--data_path", rows, "--output_dir", "out")
    assert done.exit_code == 0, done.output
    assert "labels that the model does not know (martian)" in done.stdout
    assert figures(Path("out"))["baselines"] == []


def test_other_rows_are_a_file_used_whole(
    evaluate: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    other.write_text(rows_csv(7, rows=21).replace("text,label", "body,grade"))
    done = evaluate(made.a / "model", "--data_path", other, "--text_column", "body",
                    "--label_column", "grade", "--output_dir", "out")  # fmt: skip
    assert done.exit_code == 0, done.output
    found = figures(Path("out"))
    assert found["test_rows"] == 21 and found["baselines"] == []
    reason = "There are no baselines, since a single file has no rows to train them on"
    assert reason in done.stdout and found["verdict"].startswith(reason)
    assert reason in Path("out/test_summary.txt").read_text()
    assert reason in Path("out/report.html").read_text()
    assert (
        "of the 21 rows compared here have a text that stands in the training rows" in done.stdout
    )


def test_other_rows_are_read_by_the_columns_of_the_run(
    evaluate: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    """Also where columns of the usual names hold something else."""
    run = Path(shutil.copytree(made.a, tmp_path / "run"))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"] |= {"text_column": "body", "label_column": "grade"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    plain, other = tmp_path / "plain.csv", tmp_path / "other.csv"
    lines = rows_csv(7, rows=21).splitlines()
    plain.write_text("\n".join(lines))
    more = ["body,grade,text,label", *(f"{line},nothing,{LABELS[0]}" for line in lines[1:])]
    other.write_text("\n".join(more))
    for file in (plain, other):  # the first has none of the run's columns
        done = evaluate(run / "model", "--data_path", file, "--output_dir", file.stem)
        assert done.exit_code == 0, done.output
    assert figures(Path("plain"))["test_accuracy"] == figures(Path("other"))["test_accuracy"]
    truths = [figures(Path(file.stem))["test_log_loss"] for file in (plain, other)]
    assert truths[0] == truths[1]


def test_what_carries_no_hallmark_is_said_and_not_refused(
    evaluate: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    config = transformers.AutoConfig.from_pretrained(
        made.base, num_labels=3, id2label=dict(enumerate(LABELS)), label2id={}
    )
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        made.base, config=config
    )
    model.save_pretrained(theirs)
    transformers.AutoTokenizer.from_pretrained(made.base).save_pretrained(theirs)
    done = evaluate(theirs, "--data_path", made.data)
    assert done.exit_code == 0, done.output
    assert "carries no hallmark; nothing proves what it is" in done.stderr
    warning = "The model carries no hallmark: nothing proves what it is."
    assert done.stdout.startswith(warning)
    folder = Path(f"{theirs}-evaluation-{made.data.stem}")
    assert (folder / "test_summary.txt").read_text().startswith(warning)
    page = (folder / "report.html").read_text()
    assert page.index(warning) < page.index("All figures") and 'class="verdict unknown"' in page
    found = figures(tmp_path / "theirs-evaluation-rows")
    assert found["hallmark"] is None and found["evaluated"] == f"model {theirs}"
    without = evaluate(theirs, "--output_dir", "out")
    assert_refused_at_the_end(without, USAGE, "--data_path")


def assert_refused_at_the_end(result: Result, exit_code: int, says: str) -> None:
    """An error after lines of progress."""
    assert result.exit_code == exit_code, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and says in last, result.stderr
    assert not Path("out").exists()


def test_no_head_is_ever_made_up(evaluate: Callable[..., Result], made: Place) -> None:
    done = evaluate(made.base, "--data_path", made.data, "--output_dir", "out")
    assert "base model" in done.stderr
    assert_refused_at_the_end(done, GATE, "the classification head is missing")


@pytest.mark.parametrize("change", ["lost", "left over", "another label count"])
def test_weights_that_do_not_fit_are_refused(
    change: str, evaluate: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(made.b / "model", tmp_path / "model"))
    (model / "hallmark.json").unlink()
    weights = load_file(model / "model.safetensors")
    if change == "lost":
        del weights["classifier.bias"]
    elif change == "left over":
        weights["lora_A.weight"] = torch.ones(2, 2)
    else:
        weights["classifier.weight"] = torch.ones(5, 32)
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    done = evaluate(model, "--data_path", made.data, "--output_dir", "out")
    key = {"lost": "classifier.bias", "left over": "lora_A.weight"}.get(change, "classifier.weight")
    assert_refused_at_the_end(done, GATE, key)


def test_labels_that_the_model_does_not_know_are_named(
    evaluate: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    (tmp_path / "odd.csv").write_text("text,label\na film,odd\nb film,good\nc film,odd\n")
    done = evaluate(made.a / "model", "--data_path", "odd.csv", "--output_dir", "out")
    assert_refused_at_the_end(done, DATA, "the label 'odd' is none that")


def test_a_file_that_was_changed_after_stamping_is_refused(
    evaluate: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(made.b, tmp_path / "run"))
    (run / "model" / "label_mapping.json").write_text("{}")
    done = evaluate(run / "model", "--output_dir", "out")
    assert_refused_at_the_end(done, GATE, "label_mapping.json was changed after it was stamped")


def test_a_job_folder_needs_a_seed(
    evaluate: Callable[..., Result], made: Place, tmp_path: Path
) -> None:
    job = tmp_path / "job"
    for seed in (0, 42):
        shutil.copytree(made.a, job / f"seed-{seed}")
        (job / f"seed-{seed}" / "test_results.json").write_text("{}")
    assert_refused(evaluate(job), USAGE, "holds the runs seed-0, seed-42", "--seed")
    done = evaluate(job, "--seed", "42", "--output_dir", "out")
    assert done.exit_code == 0 and f"what       run: {job / 'seed-42'}" in done.stderr, done.output


def test_a_shorter_input_is_what_the_older_flag_asks_for(
    evaluate: Callable[..., Result], made: Place
) -> None:
    for length in (4, 32):
        done = evaluate(
            made.b / "model", "--model_max_length", length, "--output_dir", f"out-{length}"
        )
        assert done.exit_code == 0, done.output
    assert figures(Path("out-4"))["test_truncated"] > figures(Path("out-32"))["test_truncated"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Name an ARTIFACT"),
        (["a", "--checkpoint_dir", "b", "--output_dir", "c"], "--output_dir is one folder"),
        (["nowhere/at/all"], "cannot be had"),
        (["file.txt"], "is a file"),
        (["empty"], "is no artifact"),
    ],
)
def test_what_is_nothing_to_evaluate_is_refused(
    arguments: list[str], says: str, evaluate: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "file.txt").write_text("")
    (tmp_path / "empty").mkdir()
    before = sorted(os.listdir(tmp_path))  # noqa: PTH208
    done = evaluate(*arguments)
    assert done.exit_code == USAGE and says in " ".join(done.stderr.split()), done.output
    assert "Traceback" not in done.stderr
    assert sorted(os.listdir(tmp_path)) == before  # noqa: PTH208
