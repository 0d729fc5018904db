"""A run and its directory: whose it is, what it was told, whether it is finished."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from textassay.config.load import flatten, resolve_job
from textassay.config.runs import (
    CONFIG,
    FINISHED,
    Run,
    begin,
    emptied_on_failure,
    holding,
    preparing,
    refuse_directory,
    runs_of,
)
from textassay.config.schema import Job
from textassay.errors import UsageError

# One other value for every setting that may change the weights.
OTHER = {
    "data.name": "sst2", "data.path": "a.csv", "data.train_file": "a.csv",
    "data.validation_file": "b.csv", "data.test_file": "c.csv", "data.text_column": "review",
    "data.label_column": "stars", "data.column_names": "a,b", "data.prompt": "{text}?",
    "data.on_bad_rows": "skip", "data.max_samples": "10", "data.test_size": "0.3",
    "data.validation_size": "0.3", "data.encoding": "cp1252", "data.delimiter": ";",
    "data.quotechar": "'", "data.escapechar": "\\", "data.skip_rows": "1", "data.split_seed": "1",
    "model.model_name_or_path": "other",
    "model.revision": "main", "model.max_seq_length": "64", "method.name": "ia3",
    "training.learning_rate": "0.1", "training.num_train_epochs": "1", "training.max_steps": "5",
    "training.per_device_train_batch_size": "8",
    "training.gradient_accumulation_steps": "2", "training.lr_scheduler_type": "cosine",
    "training.warmup_steps": "3", "training.weight_decay": "0", "training.max_grad_norm": "0.5",
    "training.gradient_checkpointing": "true", "training.precision": "fp32",
    "training.train_sampling_strategy": "random", "training.class_weights": "balanced",
    "training.eval_strategy": "steps", "training.save_strategy": "steps",
    "training.eval_steps": "10", "training.save_steps": "10",
    "training.metric_for_best_model": "accuracy", "training.early_stopping_patience": "2",
    "training.early_stopping_threshold": "0.1", "method.r": "4",
    "training.adam_beta1": "0.8", "training.fewest_steps": "300",
    "data.labels": "a,b", "data.label_type": "category", "data.normalize_labels": "true",
    "model.head": "mlp", "model.load_in_4bit": "true",
    "model.bnb_4bit_quant_type": "fp4", "model.bnb_4bit_use_double_quant": "false",
    "model.bnb_4bit_compute_dtype": "float32",
}  # fmt: skip
# What is measured and published anew when it is told otherwise, without training again.
MEASURED = {
    "evaluation.confidence": "0.9", "evaluation.bootstrap_samples": "500",
    "evaluation.baselines": "false", "evaluation.calibrate": "false",
    "evaluation.probe_rows": "4", "artifact.save_merged": "true",
    "artifact.final_model_dir": "final",
}  # fmt: skip
HARMLESS = {
    "training.per_device_eval_batch_size": "8", "training.save_total_limit": "3",
    "training.logging_steps": "5", "training.report_to": "tensorboard",
    "resources.device": "cpu", "seeds": "0,1", "name": "other",
    "evaluation.allow_unlearned": "true",
}  # fmt: skip


def job_of(flags=None):
    return resolve_job(None, None, {}, {"name": "story", **(flags or {})}, None)[0]


@pytest.fixture
def run(tmp_path):
    return Run(job_of(), 0, tmp_path / "runs" / "story" / "seed-0")


def test_there_is_another_value_for_every_setting():
    # save_bin goes with final_model_dir and cannot change alone.
    no_result = {"launcher", "artifact.runs_dir", "artifact.save_bin"}
    # What counts for DeepSpeed alone is held in tests/training/test_zero.py, a teacher's in
    # tests/config/test_distillation.py.
    apart = ("resources.", "deepspeed.", "distillation.")
    settings = {k for k in flatten(Job()) if k not in no_result and not k.startswith(apart)}
    assert settings - OTHER.keys() - MEASURED.keys() - HARMLESS.keys() == set()


@pytest.fixture
def finished(run):
    with preparing(run):
        run.finish({"macro_f1": 0.9})
    assert run.is_done()
    return run


@pytest.mark.parametrize("key", OTHER)
def test_another_training_setting_makes_another_run(key, finished):
    other = replace(finished, job=job_of({key: OTHER[key]}))
    assert not other.is_finished() and other.changed_settings()
    elsewhere = other.path / "elsewhere"
    names = {replace(one, path=elsewhere).fingerprint({}) for one in (other, finished)}
    assert len(names) == 2
    with pytest.raises(UsageError, match="another configuration"):
        refuse_directory(other)


@pytest.mark.parametrize("key", MEASURED)
def test_what_is_measured_can_change_and_the_run_goes_on_to_measure_it(key, finished):
    other = replace(finished, job=job_of({key: MEASURED[key]}))
    assert other.is_finished() and not other.is_done()
    refuse_directory(other)
    with preparing(other):
        pass
    assert not other.is_finished()
    assert other.fingerprint({}) == finished.fingerprint({})
    other.finish({})
    assert other.is_done() and not finished.is_done()


@pytest.mark.parametrize("key", HARMLESS)
def test_what_changes_no_result_leaves_a_finished_run_alone(key, finished):
    assert replace(finished, job=job_of({key: HARMLESS[key]})).is_done()


def test_another_seed_makes_another_run(finished):
    assert not replace(finished, seed=1).is_finished()


def test_a_run_that_is_older_than_a_setting_is_still_the_same(finished):
    """Its config.yaml lacks the setting, and its fingerprint was made of the others."""
    stored = yaml.safe_load((finished.path / CONFIG).read_text(encoding="utf-8"))
    del stored["model"]["head"], stored["training"]["fewest_steps"]
    stored["fingerprint"] = "sha256:of another version"
    (finished.path / CONFIG).write_text(yaml.safe_dump(stored))
    told = replace(finished, job=job_of({"training.fewest_steps": "0"}))
    told.finish({})
    assert told.is_done() and told.fingerprint({}) == "sha256:of another version"
    # That is what it did before the setting was known; the default is another one.
    assert list(finished.changed_settings()) == ["training.fewest_steps"]


def test_a_job_has_one_run_for_each_seed_in_a_directory_of_its_own(tmp_path):
    both = runs_of(job_of({"seeds": "3,0"}), tmp_path)
    assert [(run.seed, run.path) for run in both] == [
        (3, tmp_path / "story" / "seed-3"),
        (0, tmp_path / "story" / "seed-0"),
    ]
    assert not any(run.force for run in both)


def test_the_configuration_of_a_run_is_written_out_whole(run):
    with preparing(run):
        pass
    stored = yaml.safe_load((run.path / CONFIG).read_text(encoding="utf-8"))
    assert stored.pop("fingerprint") == run.fingerprint({})
    assert stored.pop("seed") == run.seed
    assert Job.model_validate(stored) == run.job


def test_a_directory_that_is_absent_empty_or_the_runs_own_is_accepted(run):
    refuse_directory(run)
    run.path.mkdir(parents=True)
    refuse_directory(run)
    with preparing(run):
        pass
    refuse_directory(run)


def test_a_file_in_the_place_of_the_directory_is_refused(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        refuse_directory(replace(run, path=tmp_path / "file"))


@pytest.mark.parametrize("content", ["theme: dark\n", "- a\n", "a: [", "", "\udcff"])
@pytest.mark.parametrize("name", ["thesis.txt", CONFIG])
def test_somebody_elses_files_are_refused_even_by_force(name, content, run):
    run.path.mkdir(parents=True)
    (run.path / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match="not of a run"):
        refuse_directory(replace(run, force=True))


def test_a_run_with_another_configuration_is_refused_with_the_difference(run):
    with preparing(run):
        pass
    other = replace(run, job=job_of({"training.max_steps": "7"}))
    with pytest.raises(UsageError, match=r"training\.max_steps: -1 there, 7 here"):
        refuse_directory(other)
    refuse_directory(replace(other, force=True))


def test_an_earlier_attempt_is_kept_for_resuming(run):
    with preparing(run):
        pass
    (run.path / "checkpoint-1").mkdir()
    with preparing(run):
        pass
    assert (run.path / "checkpoint-1").is_dir()


@pytest.mark.parametrize("how", [{"force": True}, {"resume": "none"}], ids=str)
def test_an_earlier_attempt_goes_where_the_run_starts_again(how, run):
    with preparing(run):
        pass
    (run.path / "checkpoint-1").mkdir()
    with preparing(replace(run, **how)):
        pass
    assert [path.name for path in run.path.iterdir()] == [CONFIG]


@pytest.mark.parametrize("where", ["there", "a link", "here"])
def test_force_replaces_what_runs_write_and_keeps_the_rest(
    where, run, tmp_path, monkeypatch, capsys
):
    """The directory itself stays: it may be a mount point, a link, or where the user is."""
    with preparing(run):
        for name in ("model/w", "merged/w", ".model.abcd1234/model/w", "checkpoint-5/w"):
            (run.path / name).parent.mkdir(parents=True)
            (run.path / name).write_text("ours")
    (run.path / "notes.txt").write_text("the user's")
    (run.path / "thesis").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "weights").write_text("the user's")
    (run.path / "finished.json").symlink_to(tmp_path / "elsewhere" / "weights")
    paths = {"there": run.path, "a link": tmp_path / "link", "here": Path()}
    (tmp_path / "link").symlink_to(run.path)
    monkeypatch.chdir(run.path if where == "here" else tmp_path)
    inode = run.path.stat().st_ino
    with preparing(replace(run, path=paths[where], force=True)):
        pass
    assert {path.name for path in run.path.iterdir()} == {CONFIG, "notes.txt", "thesis"}
    assert (tmp_path / "elsewhere" / "weights").read_text() == "the user's"
    assert run.path.stat().st_ino == inode
    assert "kept notes.txt, thesis" in capsys.readouterr().err


def test_a_forced_run_that_fails_before_it_begins_keeps_the_earlier_one(finished):
    with pytest.raises(ValueError), emptied_on_failure(replace(finished, force=True)):
        raise ValueError
    assert finished.is_done()


@pytest.mark.parametrize("made", [False, True], ids=["absent", "empty"])
def test_a_directory_is_as_it_was_if_the_run_fails_before_it_begins(made, run, tmp_path):
    if made:
        run.path.mkdir(parents=True)
    with pytest.raises(ValueError), holding(run), emptied_on_failure(run):
        (run.path / "half").mkdir()
        raise ValueError
    assert sorted(tmp_path.rglob("*")) == (
        [*reversed([run.path, *run.path.parents[:2]])] if made else []
    )


def test_a_run_that_goes_on_is_not_finished_until_it_is_again(finished):
    begin(finished, {})
    assert not (finished.path / FINISHED).exists()


@pytest.mark.parametrize("took_old", [False, True])
def test_what_a_kill_left_of_publishing_goes_and_the_former_model_stays(took_old, run):
    with preparing(run):
        pass
    scratch = run.path / ".model.abcd1234"
    (scratch / "model").mkdir(parents=True)
    (scratch / ".old" if took_old else run.path / "model").mkdir()
    with holding(run):
        pass
    assert {path.name for path in run.path.iterdir()} == {CONFIG, "model"}
