"""A whole run, small: its files, its artifact, and what a second call does."""

import dataclasses
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from textassay import Classifier
from textassay.artifacts.hallmark import verify
from textassay.config.runs import Run
from textassay.config.schema import DataSection
from textassay.data.load import load_dataset, load_rows
from textassay.data.trained_on import TrainedOn, trained_on
from textassay.errors import GateError, TextassayError, UsageError
from textassay.evaluation.metrics import point_scores
from textassay.files import read_json
from textassay.models.probabilities import softmax
from textassay.training import publish
from textassay.training.run import run_training
from textassay.training.trainer import AssayTrainer

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("verified_here")]
FILES = {
    "config.yaml", "provenance.json", "train_results.json", "eval_results.json",
    "test_results.json", "all_results.json", "test_summary.txt", "trainer_state.json",
    "label_mapping.json", "predictions.parquet", "confusion_matrix.png", "learning_curves.png",
    "reliability.png", "report.html", "finished.json", "model",
}  # fmt: skip


@pytest.fixture
def finished(make_run) -> Run:
    run = make_run(evaluation__baselines="true")
    run_training(run)
    return run


def test_a_run_leaves_the_files_that_it_promises(finished: Run) -> None:
    names = {path.name for path in finished.path.iterdir()}
    assert {name for name in names if not name.startswith("checkpoint-")} == FILES
    assert len(names - FILES) <= 2  # the best checkpoint and the last one
    assert finished.is_finished()
    assert "4 probe rows" in verify(finished.model_dir)
    for picture in ("confusion_matrix.png", "learning_curves.png", "reliability.png"):
        assert (finished.path / picture).read_bytes().startswith(b"\x89PNG")


def test_the_results_are_those_of_the_saved_artifact(finished: Run) -> None:
    table = load_dataset(finished.job.data).splits["test"]
    classifier = Classifier.load(finished.model_dir)
    truth = np.array([classifier.labels.index(label) for label in table["label"].to_pylist()])
    probabilities = classifier.predict_proba(table["text"].to_pylist())
    again = point_scores(truth, np.log(probabilities))
    stored = read_json(finished.path / "test_results.json")
    for name, value in again.items():
        assert stored[f"test_{name}"] == pytest.approx(value, abs=1e-6), name
    predictions = pq.read_table(finished.path / "predictions.parquet")
    assert predictions["text"].to_pylist() == table["text"].to_pylist()
    columns = [predictions[name].to_pylist() for name in ("predicted", "label")]
    right = [one == other for one, other in zip(*columns, strict=True)]
    assert np.mean(right) == pytest.approx(stored["test_accuracy"])
    for index, label in enumerate(classifier.labels):
        column = predictions[f"probability of {label}"].to_numpy()
        np.testing.assert_allclose(column, probabilities[:, index], atol=1e-6)


def test_the_probabilities_are_calibrated_on_the_validation_rows(finished: Run) -> None:
    evaluated, tested = (read_json(finished.path / f"{name}_results.json")
                         for name in ("eval", "test"))  # fmt: skip
    fitted = evaluated["calibration"]
    assert fitted["rows"] == evaluated["eval_rows"] and fitted["fitted_on"] == "validation"
    classifier = Classifier.load(finished.model_dir)
    temperature = read_json(finished.model_dir / "config.json")["textassay"]["temperature"]
    assert temperature == fitted["temperature"] == classifier.temperature != 1
    rows = load_dataset(finished.job.data).splits
    for split, results in (("validation", evaluated), ("test", tested)):
        found = results["calibration"]
        truth = [classifier.labels.index(label) for label in rows[split]["label"].to_pylist()]
        logits = classifier.logits(rows[split]["text"].to_pylist())
        for part, at in (("before", 1), ("after", temperature)):
            scores = point_scores(np.array(truth), logits / at)
            for name in ("log_loss", "ece"):
                assert found[part][name]["value"] == pytest.approx(scores[name], abs=1e-6)
    assert fitted["after"]["log_loss"]["value"] <= fitted["before"]["log_loss"]["value"]
    # The hallmark's logits know nothing of it.
    probe = read_json(finished.model_dir / "hallmark.json")["probe"]
    np.testing.assert_allclose(classifier.logits(probe["texts"]), probe["logits"], atol=1e-3)
    said = f"temperature {temperature:.4g}, fitted on {fitted['rows']} validation rows"
    for place in ("report.html", "test_summary.txt", "model/README.md"):
        assert said in (finished.path / place).read_text(), place


def test_calibration_can_be_switched_off(make_run, capsys: pytest.CaptureFixture) -> None:
    run = make_run(evaluation__calibrate="false", training__max_steps=2)
    run_training(run)
    assert "calibrated no, evaluation.calibrate is false" in capsys.readouterr().err
    assert "temperature" not in read_json(run.model_dir / "config.json")["textassay"]
    assert Classifier.load(run.model_dir).temperature == 1
    assert read_json(run.path / "test_results.json")["calibration"] is None
    assert read_json(run.path / "eval_results.json")["calibration"]["temperature"] is None
    for place in ("report.html", "test_summary.txt", "model/README.md"):
        assert "no, evaluation.calibrate is false" in (run.path / place).read_text(), place


def test_the_report_stands_alone(finished: Run) -> None:
    page = (finished.path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http://" not in page and "https://" not in page
    stored = read_json(finished.path / "test_results.json")
    assert f"{stored['test_accuracy']:.3f}" in page
    assert stored["verdict"] in page
    assert [baseline["name"] for baseline in stored["baselines"]] == ["TF-IDF", "majority"]


def test_a_finished_run_is_left_alone_and_another_configuration_refused(finished: Run) -> None:
    before = (finished.path / "finished.json").stat().st_mtime_ns
    run_training(finished)
    assert (finished.path / "finished.json").stat().st_mtime_ns == before
    other = dataclasses.replace(finished, seed=1)
    with pytest.raises(UsageError, match="seed: 0 there, 1 here"):
        run_training(other)
    run_training(dataclasses.replace(other, force=True))
    assert read_json(finished.path / "provenance.json")["seed"] == 1


def test_the_seed_never_moves_a_row_to_another_split(make_run) -> None:
    prints = []
    for seed in (0, 1):
        run = make_run(f"seed-{seed}", seed=seed, training__max_steps=1)
        run_training(run)
        prints.append(read_json(run.path / "provenance.json")["data"]["fingerprints"])
    assert prints[0] == prints[1]


def test_a_full_run_saves_a_model_that_transformers_loads_alone(make_run) -> None:
    from transformers import pipeline

    run = make_run(launcher="full", training__learning_rate=1e-3)
    run_training(run)
    ours, text = Classifier.load(run.model_dir), "Heaven, and they do takeaway."
    theirs = pipeline("text-classification", str(run.model_dir))(text)
    assert theirs[0]["label"] == ours.predict(text)["label"]
    # It does not know the temperature.
    assert theirs[0]["score"] == pytest.approx(softmax(ours.logits([text])).max(), abs=1e-4)


def test_a_prompt_reaches_training_and_prediction(make_run) -> None:
    template = "Read: {text}\nWhich of {class_labels}? answer:"
    run = make_run(data__prompt=template, model__max_seq_length=64, training__max_steps=2)
    run_training(run)
    config = json.loads((run.model_dir / "config.json").read_text())
    assert config["textassay"]["prompt"]["tail"].endswith("answer:")
    assert '"very negative"' in config["textassay"]["prompt"]["tail"]
    verify(run.model_dir)


def test_early_stopping_class_weights_and_label_smoothing_work(make_run) -> None:
    run = make_run(
        training__early_stopping_patience=1,
        training__early_stopping_threshold=1.0,  # nothing is ever better by that much
        training__class_weights="balanced",
        training__label_smoothing_factor=0.1,
        training__num_train_epochs=9,
    )
    run_training(run)
    assert read_json(run.path / "trainer_state.json")["epoch"] == 2


def test_the_best_checkpoint_is_kept_wherever_it_was_evaluated(make_run) -> None:
    run = make_run(
        training__eval_strategy="steps",
        training__eval_steps=2,
        training__save_strategy="steps",
        training__save_steps=50,
        training__metric_for_best_model="log_loss",
    )
    run_training(run)
    state = read_json(run.path / "trainer_state.json")
    evaluations = {e["step"]: e["eval_log_loss"] for e in state["log_history"]
                   if "eval_log_loss" in e}  # fmt: skip
    best = min(evaluations, key=lambda step: evaluations[step])
    results = read_json(run.path / "train_results.json")
    assert results["best_checkpoint"] == f"checkpoint-{best}"
    assert results["best_metric"] == evaluations[best]
    assert state["max_steps"] in evaluations


def test_of_equal_scores_the_one_with_the_lower_loss_is_best(make_run, monkeypatch) -> None:
    """Ten validation rows have eleven accuracies; the first of equal ones has learned least."""
    whole = AssayTrainer.evaluation_loop

    def same_score(self, *given, **named):
        output = whole(self, *given, **named)
        output.metrics["eval_macro_f1"] = 0.5
        return output

    monkeypatch.setattr(AssayTrainer, "evaluation_loop", same_score)
    run = make_run(training__learning_rate=1e-2)
    run_training(run)
    history = read_json(run.path / "trainer_state.json")["log_history"]
    losses = {entry["step"]: entry["eval_loss"] for entry in history if "eval_loss" in entry}
    assert len(losses) == 3 and min(losses, key=losses.__getitem__) != min(losses)
    best = read_json(run.path / "train_results.json")["best_checkpoint"]
    assert best == f"checkpoint-{min(losses, key=losses.__getitem__)}"


def test_a_model_that_reads_back_differently_is_not_saved(
    make_run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault is real: a head that is scaled on its way to the disk."""
    plain = publish.save_weights

    def faulty(model, folder):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "classifier" in name and parameter.requires_grad:
                    parameter.mul_(3)
        plain(model, folder)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "classifier" in name and parameter.requires_grad:
                    parameter.div_(3)

    monkeypatch.setattr(publish, "save_weights", faulty)
    run = make_run(training__learning_rate=1e-2, training__precision="fp32")
    with pytest.raises(GateError, match="does not compute what the trained one does"):
        run_training(run)
    assert not run.model_dir.exists()
    assert not run.is_finished()


def test_a_loss_that_is_lost_stops_the_run(make_run) -> None:
    run = make_run(
        launcher="full",
        training__learning_rate=1e30,
        training__max_grad_norm=0,
        training__logging_steps=1,
        training__precision="fp32",
    )
    with pytest.raises(TextassayError, match="not a number"):
        run_training(run)
    assert not run.is_finished()


@pytest.mark.parametrize("evaluated", ["before a logged step", "after the checkpoint"])
def test_weights_that_are_no_numbers_are_never_saved(evaluated, make_run) -> None:
    """Or every repeat would go on from them."""
    at = 2 if evaluated == "before a logged step" else 20
    run = make_run(
        training__learning_rate=1e30, training__warmup_steps=0, training__logging_steps=50,
        training__eval_strategy="steps", training__eval_steps=at,
        training__save_strategy="steps", training__save_steps=3,
    )  # fmt: skip
    for _ in range(2):
        with pytest.raises(
            TextassayError, match=r"are not numbers any more; lower training\.learn"
        ):
            run_training(run)
        assert not any(run.path.glob("checkpoint-*"))


def test_what_is_measured_changes_without_training_again(finished: Run, monkeypatch) -> None:
    weights = (finished.model_dir / "adapter_model.safetensors").read_bytes()
    before = read_json(finished.path / "train_results.json")
    evaluation = finished.job.evaluation.model_copy(update={"confidence": 0.9})
    job = finished.job.model_copy(update={"evaluation": evaluation})
    monkeypatch.setattr(AssayTrainer, "training_step", None)
    again = dataclasses.replace(finished, job=job)
    run_training(again)
    assert again.is_done() and not finished.is_done()
    assert read_json(finished.path / "test_results.json")["confidence"] == 0.9
    assert read_json(finished.path / "train_results.json") == before
    assert (finished.model_dir / "adapter_model.safetensors").read_bytes() == weights
    for checkpoint in finished.path.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    with pytest.raises(UsageError, match=r"best checkpoint is gone.*evaluation.confidence 0.95"):
        run_training(finished)
    assert again.is_done()


def test_an_artifact_knows_its_columns_and_a_class_called_none(make_run, tmp_path, capsys) -> None:
    rows = "".join(f"😀,{'🙌' * (n + 1)},{('none', 'joy')[n % 2]}\n" for n in range(80))
    path = tmp_path / "emoji.csv"
    path.write_text(f"title,body,label\n{rows}", encoding="utf-8")
    told = {"data__name": None, "data__path": str(path), "data__text_column": "title,body"}
    run = make_run(**told, data__labels="none,joy", evaluation__baselines="true",
                   training__max_steps=2, evaluation__allow_unlearned="true")  # fmt: skip
    run_training(run)
    assert "The baseline TF-IDF cannot be fitted" in capsys.readouterr().err
    assert "cannot be fitted" in (run.path / "report.html").read_text(encoding="utf-8")
    model = trained_on(run.model_dir)
    assert model == TrainedOn(labels=("none", "joy"), text_column="title,body")
    table, _ = load_rows(path, DataSection(), model=model)
    assert len(table) == 80 and table["text"][0].as_py() == "😀 🙌"
