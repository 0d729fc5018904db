"""Every file of tests/reading_cases.py through every command that reads rows.

A command is stopped once it has its rows, so that nothing is trained, scored or exported for them;
predict.py and clean.py run to their end.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import Result
from tests.classifiers_for_tests import build, save
from tests.commands_for_tests import go_offline, paragraph, script
from tests.models_for_tests import tiny_bert
from tests.reading_cases import CASES, Case, Pairs

from textassay.data.labels import LabelMap

BAD_DATA = 65
# Which function of a command gets its rows, and where they stand in what it is given.
STOPS: dict[str, tuple[str, Callable[..., list[pa.Table]]]] = {
    "train_lora": ("textassay.training.setup.find_inputs", lambda job, rows, _: tables(rows)),
    "plan": ("textassay.planning.rows._longest", lambda job, rows, *more: tables(rows)),
    "evaluate": ("textassay.evaluation.standalone.evaluate", lambda one, split, rows, *_: [rows]),
    "compare": ("textassay.evaluation.compare.evaluate", lambda one, split, rows, *more: [rows]),
    "export": ("textassay.exporting.export.write_onnx", lambda one, to, rows: [rows.validation]),
}  # fmt: skip
WITH_A_MODEL = ("evaluate", "compare", "export")


class StoppedError(Exception):
    """The command has its rows."""


def tables(dataset: Any) -> list[pa.Table]:
    return list(dataset.splits.values())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("reading") / "base")


@pytest.fixture(scope="module")
def model(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Path]:
    """model(case): a classifier that knows the labels of a case, made once for each set of them."""
    made: dict[tuple[str, ...], Path] = {}

    def find(case: Case) -> Path:
        names = tuple(sorted({label for _, label in case.rows} or {"complaint", "praise"}))
        if names not in made:
            built = build(base, LabelMap(names))
            made[names] = tmp_path_factory.mktemp("known") / "model"
            save(made[names], built.model, built.tokenizer, LabelMap(names))
        return made[names]

    return find


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    go_offline(monkeypatch, tmp_path / "caches")


def read_by(door: str, patch: pytest.MonkeyPatch, *arguments: Any) -> tuple[Result, Pairs | None]:
    """What a command said, and the rows that it read; None where it read none."""
    found: list[pa.Table] = []
    where, pick = STOPS[door]

    def stop(*given: Any, **told: Any) -> None:
        found.extend(pick(*given, **told))
        raise StoppedError

    patch.setattr(where, stop)
    result = script(door)(*arguments)
    if not found:
        return result, None
    assert isinstance(result.exception, StoppedError), result.output
    columns = [(rows["text"].to_pylist(), rows["label"].to_pylist()) for rows in found]
    return result, [pair for of in columns for pair in zip(*of, strict=True)]


def doors_of(case: Case) -> list[str]:
    """The commands that a file is tried with; a plan without rows is as long as one with them."""
    return [door for door in STOPS if door != "plan" or not case.refused]


@pytest.mark.parametrize(
    ("name", "door"), [(name, door) for name, case in CASES.items() for door in doors_of(case)]
)
def test_a_command_reads_every_row_or_says_why_not(
    name: str, door: str, base: Path, model: Callable[[Case], Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    case = CASES[name]
    path = case.write(Path())
    told = [
        *case.reading,
        *(case.labels if door not in WITH_A_MODEL or "skip" in case.labels else ()),
    ]
    if door in WITH_A_MODEL:
        place = model(case)
        flags = {"evaluate": [place], "compare": [place, place],
                 "export": [place, "--to", "onnx", "--output_dir", "onnx"]}[door]  # fmt: skip
    else:
        flags = ["--model_name_or_path", base, "--max_seq_length", "32"]
        flags += ["--output_dir", "out"] if door == "train_lora" else []
    result, rows = read_by(door, monkeypatch, *flags, "--data_path", path, *told)
    said = " ".join(result.stderr.split())
    if case.refused:
        assert rows is None and result.exit_code == BAD_DATA, result.output
        assert case.refused in said
        assert len(result.stderr.splitlines()[-1]) < 700
    elif case.is_folder and door in WITH_A_MODEL:
        assert rows and not Counter(rows) - Counter(case.rows)
    else:
        assert rows is not None, result.output
        assert Counter(rows) == Counter(case.rows)
    if door in WITH_A_MODEL:  # the others say it later: test_reading_notes.py
        assert case.note in said


def test_a_plan_without_rows_says_why(base: Path) -> None:
    case = CASES["doccano"]
    told = ["--model_name_or_path", base, "--max_seq_length", "32"]
    result = script("plan")(*told, "--data_path", case.write(Path()))
    assert case.refused in " ".join(result.stderr.split()) and result.exit_code == 0


@pytest.mark.parametrize("name", CASES)
def test_clean_writes_every_row_or_says_why_not(name: str) -> None:
    case = CASES[name]
    path = case.write(Path())
    source = path / "train.csv" if case.is_folder else path
    labels = () if "skip" in case.labels else case.labels
    result = script("clean")(source, "--output", "clean.jsonl", *case.reading, *labels)
    said = " ".join(result.stderr.split())
    wrong = case.by_clean or (case.refused if case.cleaned is None else "")
    if wrong:
        assert wrong in said and result.exit_code in (2, BAD_DATA), result.output
        assert not Path("clean.jsonl").exists()
        return
    assert result.exit_code == 0, result.output
    assert case.is_folder or "skip" in case.labels or case.note in said
    written = [json.loads(line) for line in Path("clean.jsonl").read_text().splitlines()]
    label = next(name for name in ("label", "target") if name in written[0])
    rows = [(row["text"], "".join(map(str, row[label])) if isinstance(row[label], list) else
             str(row[label])) for row in written]  # fmt: skip
    assert rows == (case.rows if case.cleaned is None else case.cleaned)


@pytest.mark.parametrize("name", CASES)
def test_predict_answers_every_text_or_says_why_not(
    name: str, model: Callable[[Case], Path]
) -> None:
    case = CASES[name]
    path = case.write(Path())
    source = path / "train.csv" if case.is_folder else path
    arguments = [model(case), "--input", source, "--output", "answers.jsonl", *case.reading]
    result = script("predict")(*arguments)
    said = " ".join(result.stderr.split())
    if case.no_answer:
        assert case.no_answer in said and result.exit_code == BAD_DATA, result.output
        assert paragraph(result.stderr.splitlines()[-1] + "\n")
        assert not Path("answers.jsonl").exists()
        return
    assert result.exit_code == 0, result.output
    assert case.is_folder or case.note in said
    answers = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    wanted = [text for text, _ in case.rows] if case.answered is None else case.answered
    joined = [part for flag, part in zip(case.reading, case.reading[1:], strict=False)
              if flag == "--text_column"]  # fmt: skip
    names = joined[0].split(",") if joined else ["text" if "text" in answers[0] else "text_a"]
    assert [" ".join(row[part] for part in names) for row in answers] == wanted
    assert all(row["predicted"] is not None for row in answers)
