"""Rows and answers of any format, written in any format, are read back as they were."""

import json
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.prediction.answering import FORMATS, write_table
from tests.tables_for_tests import TEXTS

from textassay.data.read import read_file
from textassay.errors import DataError, UsageError
from textassay.prediction import rows
from textassay.prediction.answers import Choices, answer, column_names, no_answer
from textassay.prediction.rows import open_source
from textassay.prediction.writing import layout_for, write_part, write_whole

USUAL = Choices()
LABELS = ["bad", "good; or so", '"superb"']


def rewritten(source, path, choices=USUAL, missing=()):
    """`path` with the rows of a source and made-up answers; none for the rows in `missing`."""
    layout = layout_for(source, path, LABELS, choices)
    dice = np.random.default_rng(0)
    parts, given = [], []
    for number, window in enumerate(source.windows()):
        answers = [
            no_answer("is broken", choices) if len(given) + at in missing
            else answer(dice.dirichlet([1, 1, 1]), LABELS, choices)
            for at in range(len(window.rows))
        ]  # fmt: skip
        parts.append(path.with_name(f"part-{number}"))
        write_part(parts[-1], layout, window, answers)
        given += answers
    write_whole(path, layout, parts)
    return given


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("origin", FORMATS)
@settings(max_examples=8)
@given(texts=st.lists(TEXTS, min_size=1, max_size=5))
def test_rows_come_back_with_their_answers(origin, target, texts, tmp_path):
    columns = {"text": texts, "label": [str(number) for number in range(len(texts))]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "WINDOW_ROWS", 2)
        source = open_source(write_table(tmp_path / f"in.{origin}", columns))
        given = rewritten(source, tmp_path / f"out.{target}")
    back = {
        name: cells.to_pylist()
        for name, cells in read_file(tmp_path / f"out.{target}").columns.items()
    }
    assert back["text"] == texts and back["label"] == columns["label"]
    assert back["predicted"] == [one["predicted"] for one in given]
    assert [float(score) for score in back["score"]] == [one["score"] for one in given]
    if target in ("json", "jsonl"):
        assert [json.loads(cell) for cell in back["probabilities"]] == [
            one["probabilities"] for one in given
        ]
    else:
        assert list(back) == ["text", "label", *column_names(LABELS, Choices())]
        assert [float(cell) for cell in back["probability of good; or so"]] == [
            one["probabilities"]["good; or so"] for one in given
        ]


@pytest.mark.parametrize("target", FORMATS)
def test_a_row_without_an_answer_says_why(target, tmp_path):
    source = open_source(write_table(tmp_path / "in.csv", {"text": ["a", "b", "c"]}))
    rewritten(source, tmp_path / f"out.{target}", Choices(top_k=2, problems=True), missing={1})
    back = read_file(tmp_path / f"out.{target}").columns
    assert [cell or None for cell in back["problem"].to_pylist()] == [None, "is broken", None]
    assert [bool(cell) for cell in back["predicted"].to_pylist()] == [True, False, True]


def test_parquet_columns_keep_their_types_and_the_answers_are_numbers(tmp_path):
    table = pa.table({
        "text": ["a", "b"], "when": pa.array([datetime(2024, 1, 2, 3, 4, 5, 678901), None]),
        "nested": [[1, 2], None], "small": pa.array([1, 2], pa.int8()),
        "share": [0.5, float("nan")],
    })  # fmt: skip
    pq.write_table(table.replace_schema_metadata({"huggingface": "{}"}), tmp_path / "in.parquet")
    source = open_source(tmp_path / "in.parquet")
    rewritten(source, tmp_path / "out.parquet")
    back = pq.read_table(tmp_path / "out.parquet")
    assert back.select(table.column_names).schema == table.schema
    assert back.select(["text", "when", "nested", "small"]).equals(table.drop_columns(["share"]))
    assert back.schema.metadata is None
    assert back.schema.field("score").type == pa.float64()
    rewritten(source, tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[0]["nested"] == [1, 2] and lines[0]["when"] == "2024-01-02 03:04:05.678901"
    assert lines[1]["share"] is None and lines[1]["when"] is None
    rewritten(source, tmp_path / "out.csv")
    assert (
        read_file(tmp_path / "out.csv").columns["when"][0].as_py() == "2024-01-02 03:04:05.678901"
    )


def test_json_values_stay_what_they_are(write, tmp_path):
    items = [{"text": "a", "id": 7, "tags": ["x", {"y": None}]}, {"text": "b", "more": True}]
    source = open_source(write("in.json", json.dumps(items)))
    rewritten(source, tmp_path / "out.json")
    back = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [{name: item[name] for name in item if name in source.names} for item in back] == items
    rewritten(source, tmp_path / "out.csv")
    assert read_file(tmp_path / "out.csv").columns["tags"].to_pylist() == ['["x", {"y": null}]', ""]


@pytest.mark.parametrize(("name", "target", "refused"), [
    ("score", "csv", True), ("probability of bad", "csv", True),
    ("probability of bad", "jsonl", False), ("probabilities", "jsonl", True),
    ("probabilities", "parquet", False),
])  # fmt: skip
def test_a_column_is_never_written_over(name, target, refused, tmp_path):
    source = open_source(write_table(tmp_path / "in.csv", {"text": ["a"], name: ["mine"]}))
    output = tmp_path / f"out.{target}"
    if refused:
        with pytest.raises(UsageError, match="--prefix"):
            layout_for(source, output, LABELS, Choices())
    rewritten(source, output, Choices(prefix="new ") if refused else Choices())
    assert read_file(output).columns[name].to_pylist() == ["mine"]


def test_nul_is_not_written_where_it_could_not_be_read(write, tmp_path):
    source = open_source(write("in.jsonl", '{"text": "a"}\n{"text": "a\\u0000b"}\n'))
    with pytest.raises(DataError, match=r"line 2 .*holds NUL.*\.jsonl"):
        rewritten(source, tmp_path / "out.csv")
    rewritten(source, tmp_path / "out.jsonl")
    assert read_file(tmp_path / "out.jsonl").columns["text"].to_pylist() == ["a", "a\0b"]


@pytest.mark.parametrize("target", ["csv", "tsv"])
def test_formulas_are_escaped_where_that_is_asked_for(target, tmp_path):
    columns = {"text": ["=1+1", "-5", "good"], "@note": ["+cmd()", "a", "b"]}
    source = open_source(write_table(tmp_path / "in.jsonl", columns))
    for choices, sign in ((Choices(prefix="=p "), ""),
                          (Choices(prefix="=p ", escape_formulas=True), "'")):  # fmt: skip
        rewritten(source, tmp_path / f"out.{target}", choices, missing={1})
        back = read_file(tmp_path / f"out.{target}").columns
        assert back["text"].to_pylist() == [f"{sign}=1+1", "-5", "good"]
        assert back[f"{sign}@note"].to_pylist() == [f"{sign}+cmd()", "a", "b"]
        assert f"{sign}=p predicted" in back
