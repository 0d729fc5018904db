"""The rows that a run was trained on, as far as they can be read as they were."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textassay.config.identity import file_hashes
from textassay.config.runs import Run, preparing
from textassay.config.schema import Job
from textassay.data.load import load_dataset, load_rows
from textassay.data.trained_on import TrainedOn, trained_on
from textassay.errors import DataError
from textassay.evaluation.stored_run import (
    read_rows_of,
    refuse_changed_data,
    run_around,
    training_rows,
)

TEXTS = "text\na text that only the teacher labelled\nand another one\n"


@pytest.fixture
def student(write, tmp_path):
    """A run that learned a teacher's answers on texts without labels."""
    rows = "".join(f"row {i},{'good' if i % 2 else 'bad'}\n" for i in range(40))
    data, more = write("rows.csv", f"text,label\n{rows}"), write("more.csv", TEXTS)
    distillation = {"teacher": "nobody", "unlabelled_files": [str(more)]}
    job = Job.model_validate({"data": {"path": str(data)}, "distillation": distillation})
    run = Run(job, 0, tmp_path / "run")
    with preparing(run, {"unlabelled_files": file_hashes([str(more)])}):
        pass
    return run


def read(student):
    around = run_around(student.model_dir)
    return around, load_dataset(around.data)


def test_a_student_has_seen_the_texts_of_its_teacher(student, write):
    around, dataset = read(student)
    texts = training_rows(around, dataset.whole_fingerprint())["text"].to_pylist()
    assert texts[-2:] == TEXTS.splitlines()[1:]
    assert texts[:-2] == dataset.splits["train"]["text"].to_pylist()
    write("more.csv", "text\nsomething else\n")
    assert training_rows(around, dataset.whole_fingerprint()) is None
    assert training_rows(around, "another") is None and training_rows(None, None) is None


def test_data_that_changed_are_refused(student, write):
    around, dataset = read(student)
    before = dataset.whole_fingerprint()
    refuse_changed_data(around, before, dataset)
    write("rows.csv", (student.path.parent / "rows.csv").read_text() + "one more,good\n")
    with pytest.raises(DataError, match="changed since it was trained"):
        refuse_changed_data(*read(student)[:1], before, read(student)[1])


NAMES = ["billing", "delivery", "other"]


def test_a_run_that_knows_the_numbers_of_a_classlabel_keeps_its_rows(tmp_path):
    """As earlier versions trained: the same file, whose metadata they did not read."""
    path = tmp_path / "rows.parquet"
    table = pa.table(
        {"text": [f"text {n}" for n in range(60)], "label": [n % 3 for n in range(60)]}
    )
    pq.write_table(table, path)
    run = Run(Job.model_validate({"data": {"path": str(path)}}), 0, tmp_path / "run")
    with preparing(run):
        pass
    around, before = read(run)
    run.model_dir.mkdir()
    config = {"id2label": {str(n): str(n) for n in range(3)}}
    (run.model_dir / "config.json").write_text(json.dumps(config))
    feature = {"label": {"names": NAMES, "_type": "ClassLabel"}}
    told = json.dumps({"info": {"features": feature}})
    pq.write_table(table.replace_schema_metadata({"huggingface": told}), path)
    assert load_dataset(around.data).labels.names == tuple(NAMES)
    found = read_rows_of(around, before.whole_fingerprint())
    assert found.whole_fingerprint() == before.whole_fingerprint()
    assert training_rows(around, before.whole_fingerprint()) is not None
    rows, _ = load_rows(path, around.data, None, trained_on(run.model_dir))
    assert set(rows["label"].to_pylist()) == {"0", "1", "2"}
    for labels in (("0", "1"), (*NAMES,), ("a", "b", "c"), ("0", "1", "2", "other")):
        rows, _ = load_rows(path, around.data, None, TrainedOn(labels=labels))
        wanted = {"0", "1", "2"} if labels == ("0", "1") else set(NAMES)
        assert set(rows["label"].to_pylist()) == wanted
