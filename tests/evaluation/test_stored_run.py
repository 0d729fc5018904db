"""The rows that a run was trained on, as far as they can be read as they were."""

import pytest

from textassay.config.identity import file_hashes
from textassay.config.runs import Run, preparing
from textassay.config.schema import Job
from textassay.data.load import load_dataset
from textassay.errors import DataError
from textassay.evaluation.stored_run import refuse_changed_data, run_around, training_rows

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
