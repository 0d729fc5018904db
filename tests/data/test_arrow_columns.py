"""Columns of Parquet become text as those of any other format, or say what they are."""

import datetime
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textassay.data.arrow_columns import class_names, text_columns
from textassay.data.columns import find_columns
from textassay.data.read import read_file
from textassay.errors import DataError
from textassay.prediction.rows import open_source, text_of

CLASSES = {"_type": "ClassLabel", "names": ["billing", "delivery"]}
TEXTS = ["a fine day", "a bad day"]


def with_features(table, **features):
    described = json.dumps({"info": {"features": features}})
    return table.replace_schema_metadata({"huggingface": described})


@pytest.mark.parametrize(
    "column",
    [
        pa.array([text.encode() for text in TEXTS], pa.binary()),
        pa.array([text.encode() for text in TEXTS], pa.large_binary()),
        pa.array(TEXTS).dictionary_encode(),
        pa.array([[text] for text in TEXTS]),
        pa.array(TEXTS, pa.string_view()),
        pa.array(TEXTS, pa.large_string()),
    ],
    ids=lambda column: str(column.type)[:20],
)
def test_texts_of_any_type_are_texts_in_train_and_predict(column, tmp_path):
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet").columns["text"].to_pylist() == TEXTS
    source = open_source(tmp_path / "a.parquet")
    read = [text_of(row, "text") for window in source.windows() for row in window.rows]
    assert read == [(text, None) for text in TEXTS]


def test_numbers_and_dates_are_what_a_csv_would_hold():
    table = pa.table(
        {
            "decimal": pa.array([Decimal(0), Decimal(1)], pa.decimal128(38, 0)),
            "money": pa.array([Decimal("2.50"), None], pa.decimal128(10, 2)),
            "date": pa.array([datetime.date(2020, 1, 2), None]),
            "bool": pa.array([True, False]),
            "int": pa.array([1, None], pa.int8()),
            "float": pa.array([1.0, float("nan")]),
            "categories": pa.array([3, 4]).dictionary_encode(),
            "nothing": pa.nulls(2),
        }
    )
    columns = {name: column.to_pylist() for name, column in text_columns(table)[0].items()}
    assert columns == {
        "decimal": ["0", "1"], "money": ["2.50", None], "date": ["2020-01-02", None],
        "bool": ["true", "false"], "int": ["1", None], "float": ["1.0", None],
        "categories": ["3", "4"], "nothing": [None, None],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("feature", "values", "labels"),
    [
        (CLASSES, [1, -1, None], ["delivery", "-1", None]),
        ({"_type": "List", "feature": CLASSES}, [[0], [], [0, 1]],
         ["billing", None, '["billing", "delivery"]']),
        ({"_type": "Sequence", "feature": CLASSES}, [[1]], ["delivery"]),
        ([CLASSES], [[1]], ["delivery"]),
        ({"_type": "Value", "dtype": "int64"}, [1], ["1"]),
    ],
)  # fmt: skip
def test_the_integers_of_a_class_label_are_its_names(feature, values, labels):
    table = with_features(pa.table({"label": pa.array(values)}), label=feature)
    assert text_columns(table)[0]["label"].to_pylist() == labels


@pytest.mark.parametrize("metadata", [None, {"huggingface": "{"}, {"huggingface": '{"info": []}'}])
def test_metadata_of_another_kind_is_ignored(metadata):
    assert class_names(pa.schema([("label", pa.int64())], metadata)) == {}


@pytest.mark.parametrize(
    ("name", "values", "what"),
    [
        ("text", [["a", "b"], ["c", "d"]], "a list"),
        ("text", [{"a": "x"}, {"a": "y"}], "an object"),
        ("text", [b"\xff", b"a"], "bytes"),
        ("label", [{"a": "x"}, {"a": "y"}], "an object"),
    ],
)
def test_a_column_that_is_no_text_is_named_with_its_line(name, values, what, tmp_path):
    table = {"text": ["x", "y"], "label": ["a", "b"]} | {name: values}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=f"line 1: the column '{name}' holds {what}"):
        find_columns(read_file(tmp_path / "a.parquet"))
    if name == "text":
        source = open_source(tmp_path / "a.parquet")
        assert source.bad_rows and what in source.bad[0].reason


def test_another_column_may_be_of_any_type(tmp_path):
    table = pa.table({"text": ["x"], "label": ["a"], "image": [b"\xff\xd8"], "tags": [[1, 2]]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert find_columns(read_file(tmp_path / "a.parquet")).text == "text"
