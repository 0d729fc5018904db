"""A run and its directory: whose it is, what it was told, whether it is finished."""

import json
from dataclasses import replace

import pytest
import yaml

from textassay.config import runs
from textassay.config.load import flatten, resolve_job
from textassay.config.runs import CONFIG, Run, preparing, refuse_directory, runs_of
from textassay.config.schema import Job
from textassay.errors import UsageError

# One other value for every setting that may change a result.
OTHER = {
    "data.name": "sst2", "data.path": "a.csv", "data.train_file": "a.csv",
    "data.validation_file": "b.csv", "data.test_file": "c.csv", "data.text_column": "review",
    "data.label_column": "stars", "data.column_names": "a,b", "data.prompt": "{text}?",
    "data.on_bad_rows": "skip", "data.max_samples": "10", "data.test_size": "0.3",
    "data.validation_size": "0.3", "data.split_seed": "1", "model.model_name_or_path": "other",
    "model.revision": "main", "model.max_seq_length": "64", "method.name": "ia3",
    "training.learning_rate": "0.1", "training.num_train_epochs": "1", "training.max_steps": "5",
    "training.per_device_train_batch_size": "8", "training.per_device_eval_batch_size": "8",
    "training.gradient_accumulation_steps": "2", "training.lr_scheduler_type": "cosine",
    "training.warmup_steps": "3", "training.weight_decay": "0", "training.max_grad_norm": "0.5",
    "training.gradient_checkpointing": "true", "training.precision": "fp32",
    "training.train_sampling_strategy": "random", "training.class_weights": "balanced",
    "training.eval_strategy": "steps", "training.save_strategy": "steps",
    "training.eval_steps": "10", "training.save_steps": "10", "training.save_total_limit": "3",
    "training.metric_for_best_model": "accuracy", "training.early_stopping_patience": "2",
    "training.early_stopping_threshold": "0.1", "training.logging_steps": "5",
    "training.report_to": "tensorboard", "evaluation.confidence": "0.9",
    "evaluation.bootstrap_samples": "500", "evaluation.baselines": "false",
    "evaluation.calibrate": "false", "evaluation.probe_rows": "4", "method.r": "4",
    "training.adam_beta1": "0.8", "training.fewest_steps": "300",
    "data.labels": "a,b", "model.head": "mlp", "model.load_in_4bit": "true",
    "model.bnb_4bit_quant_type": "fp4", "model.bnb_4bit_use_double_quant": "false",
    "model.bnb_4bit_compute_dtype": "float32", "artifact.save_merged": "true",
    "artifact.final_model_dir": "final",
}  # fmt: skip


def job_of(flags=None):
    return resolve_job(None, None, {}, {"name": "story", **(flags or {})}, None)[0]


@pytest.fixture
def run(tmp_path):
    return Run(job_of(), 0, tmp_path / "runs" / "story" / "seed-0")


def test_there_is_another_value_for_every_setting_that_counts():
    # save_bin counts as well, but it goes with final_model_dir and cannot change alone.
    harmless = {"name", "seeds", "launcher", "artifact.runs_dir", "artifact.save_bin",
                "evaluation.allow_unlearned"}  # fmt: skip
    # What counts for DeepSpeed alone is held in tests/training/test_zero.py, a teacher's in
    # tests/config/test_distillation.py.
    apart = ("resources.", "deepspeed.", "distillation.")
    counts = {k for k in flatten(Job()) if k not in harmless and not k.startswith(apart)}
    assert counts - OTHER.keys() == set()


@pytest.mark.parametrize("key", OTHER)
def test_another_setting_makes_another_fingerprint(key, run):
    other = replace(run, job=job_of({key: OTHER[key]}))
    assert other.fingerprint() != run.fingerprint()


def test_epochs_that_were_named_have_the_fingerprint_that_they_always_had(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "sha256_text", json.loads)
    run = Run(job_of({"training.num_train_epochs": "2"}), 0, tmp_path)
    assert "fewest_steps" not in run.fingerprint()["training"]
    assert Run(job_of({}), 0, tmp_path).fingerprint()["training"]["fewest_steps"] == 200


def test_another_seed_makes_another_fingerprint(run):
    assert replace(run, seed=1).fingerprint() != run.fingerprint()


@pytest.mark.parametrize("flags", [
    {"name": "b"}, {"seeds": "0,1"}, {"resources.device": "cpu"},
    {"evaluation.allow_unlearned": "true"},
])  # fmt: skip
def test_what_cannot_change_the_training_does_not_change_the_fingerprint(flags, run):
    assert replace(run, job=job_of(flags)).fingerprint() == run.fingerprint()


def test_a_job_has_one_run_for_each_seed_in_a_directory_of_its_own(tmp_path):
    both = runs_of(job_of({"seeds": "3,0"}), tmp_path)
    assert [(run.seed, run.path) for run in both] == [
        (3, tmp_path / "story" / "seed-3"),
        (0, tmp_path / "story" / "seed-0"),
    ]
    assert not any(run.force for run in both)


def test_a_run_is_finished_only_for_the_configuration_that_finished(run):
    assert not run.is_finished()
    run.finish({"macro_f1": 0.9})
    assert run.is_finished()
    assert not replace(run, job=job_of({"training.max_steps": "1"})).is_finished()
    assert not replace(run, seed=1).is_finished()


def test_the_configuration_of_a_run_is_written_out_whole(run):
    with preparing(run):
        pass
    stored = yaml.safe_load((run.path / CONFIG).read_text(encoding="utf-8"))
    assert stored.pop("fingerprint") == run.fingerprint()
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
