"""A job with a teacher: what it needs, what it takes from the teacher's run, what changes it."""

import json
from dataclasses import replace

import pytest
import yaml

from textassay.config.identity import input_files
from textassay.config.load import resolve_job
from textassay.config.runs import Run
from textassay.errors import UsageError

TOLD = {"distillation.teacher": "runs/a/seed-0", "model.model_name_or_path": "small"}
CUT = {"distillation.teacher": "t", "distillation.student_layers": "3"}
STORED = {
    "fingerprint": "sha256:1", "name": "reviews", "seed": 0,
    "data": {"name": "sentiment5_en", "path": None, "test_size": 0.2, "split_seed": 4,
             "prompt": "Say: {text}"},
    "model": {"model_name_or_path": "large", "max_seq_length": 96},
}  # fmt: skip


def resolve(flags, launcher="full", job_file=None):
    job, settings = resolve_job(job_file, None, {}, flags, launcher)
    return job, {setting.key: setting.source for setting in settings}


@pytest.fixture
def teacher(tmp_path):
    """The folder of a teacher's run, as far as a job looks at it."""
    folder = tmp_path / "reviews"
    (folder / "model").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(STORED))
    (folder / "model" / "hallmark.json").write_text('{"kind": "model"}')
    return folder


@pytest.mark.parametrize("where", ["", "model"])
def test_a_student_has_the_rows_of_its_teachers_run(teacher, where) -> None:
    job, sources = resolve({**TOLD, "distillation.teacher": str(teacher / where)})
    assert (job.name, job.data.name) == ("reviews-student", "sentiment5_en")
    assert (job.data.test_size, job.data.split_seed) == (0.2, 4)
    assert job.data.prompt is None and job.model.max_seq_length == 96
    assert job.model.model_name_or_path == "small"
    assert sources["data.split_seed"] == "the teacher's run"


def test_what_is_told_goes_before_the_teachers(teacher) -> None:
    told = {**TOLD, "distillation.teacher": str(teacher), "model.max_seq_length": "32"}
    job, _ = resolve({**told, "name": "mine"})
    assert (job.name, job.model.max_seq_length, job.data.split_seed) == ("mine", 32, 4)
    job, _ = resolve({**told, "data.path": "other.csv"})  # other rows: nothing of how its are split
    assert (job.data.name, job.data.path, job.data.split_seed) == (None, "other.csv", None)


def test_a_job_file_keeps_its_name(teacher, write) -> None:
    path = write("small.yaml", yaml.safe_dump({"launcher": "full"}))
    job, _ = resolve({**TOLD, "distillation.teacher": str(teacher)}, None, path)
    assert (job.name, job.data.name) == ("small", "sentiment5_en")


def test_layers_of_the_teacher_stand_for_a_model(write) -> None:
    job, sources = resolve(CUT)
    assert job.model.model_name_or_path == "3 of the teacher's layers"
    assert sources["model.model_name_or_path"] == "distillation.student_layers"
    as_a_file = write("again.yaml", yaml.safe_dump(job.model_dump(mode="json")))
    assert resolve({}, None, as_a_file)[0] == job


def test_files_come_as_a_list_from_a_flag() -> None:
    one = {**TOLD, "distillation.unlabelled_files": "my texts/a.csv"}
    assert resolve(one)[0].distillation.unlabelled_files == ["my texts/a.csv"]
    two = {**TOLD, "distillation.unlabelled_files": "a/b.csv, c.jsonl"}
    assert resolve(two)[0].distillation.unlabelled_files == ["a/b.csv", "c.jsonl"]


@pytest.mark.parametrize(
    ("flags", "launcher", "said"),
    [
        ({"distillation.teacher": "t"}, "full", "has no student"),
        ({**TOLD, "distillation.student_layers": "3"}, "full", "two students"),
        ({"distillation.student_layers": "3"}, "full", "goes with a teacher"),
        ({"distillation.unlabelled_files": "a.csv"}, "full", "goes with a teacher"),
        (TOLD, "deepspeed", "does not go with the deepspeed launcher"),
        (CUT, "lora", "full launcher"),
        ({**TOLD, "training.num_train_epochs": "0"}, "lora", "num_train_epochs is 0"),
        ({**TOLD, "distillation.temperature": "0"}, "full", "greater than 0"),
        ({**TOLD, "distillation.temperature": "inf"}, "full", "finite"),
        ({**TOLD, "distillation.alpha": "1.5"}, "full", "less than or equal to 1"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(flags, launcher, said) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        resolve(flags, launcher)
    assert refused.value.exit_code == 2


def run_of(tmp_path, **told):
    flags = {**TOLD, **{key.replace("__", "."): value for key, value in told.items()}}
    return Run(resolve(flags)[0], 0, tmp_path / "run")


def name_of(tmp_path, **told):
    run = run_of(tmp_path, **told)
    return run.fingerprint(input_files(run.job))


def test_the_teacher_and_the_texts_count_by_what_they_are(teacher, write, tmp_path) -> None:
    texts = write("more.csv", "text\none\n")
    told = {"distillation__teacher": str(teacher), "distillation__unlabelled_files": str(texts)}
    before = name_of(tmp_path, **told)
    assert name_of(tmp_path, **told) == before
    moved = teacher.rename(tmp_path / "moved")
    told["distillation__teacher"] = str(moved)
    assert name_of(tmp_path, **told) == before
    (moved / "model" / "hallmark.json").write_text(json.dumps({"kind": "another"}))
    other = name_of(tmp_path, **told)
    assert other != before
    texts.write_text("text\ntwo\n")
    assert name_of(tmp_path, **told) not in (before, other)


@pytest.mark.parametrize(
    "told", [{"distillation__temperature": "3"}, {"distillation__alpha": "0.9"},
             {"distillation__teacher": "other"}],
)  # fmt: skip
def test_another_distillation_makes_another_fingerprint(told, tmp_path) -> None:
    assert name_of(tmp_path, **told) != name_of(tmp_path)


def test_without_a_teacher_the_section_does_not_count(tmp_path) -> None:
    """Runs that are older than it stay finished."""
    plain = Run(resolve({})[0], 0, tmp_path)
    warmer = plain.job.distillation.model_copy(update={"temperature": 9.0})
    other = replace(plain, job=plain.job.model_copy(update={"distillation": warmer}))
    assert plain.fingerprint({}) == other.fingerprint({})
