"""Every orientation of JSON gives the same rows, whole and streamed, under either name."""

import json

import pandas as pd
import pytest

from textassay.data.read import read_file
from textassay.errors import DataError
from textassay.prediction.rows import open_source, text_of

TABLE = {"text": ['The room, was 5" wide', "好", "third"], "label": ["a", "b", "a"]}
FRAME = pd.DataFrame(TABLE)
ORIENTATIONS = {
    **{name: FRAME.to_json(orient=name)
       for name in ("records", "columns", "index", "split", "table")},
    "lines": FRAME.to_json(orient="records", lines=True),
    "lists": json.dumps(TABLE),
    "named index": FRAME.set_index(pd.Index(["x1", "x2", "x3"])).to_json(),
    "sparse index": FRAME.set_index(pd.Index([7, 3, 9])).to_json(orient="index"),
    "under a name": json.dumps({"version": 1, "data": FRAME.to_dict("records")}),
    "pretty": json.dumps(FRAME.to_dict("records"), indent=2),
    "an array over lines": "[\n" + ",\n".join(map(json.dumps, FRAME.to_dict("records"))) + "\n]\n",
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_every_orientation_is_read_whole_and_streamed(name, suffix, write):
    path = write(f"a.{suffix}", ORIENTATIONS[name])
    rows = read_file(path)
    assert {key: rows.columns[key].to_pylist() for key in TABLE} == TABLE
    assert rows.lines.to_pylist() == [1, 2, 3] and rows.bad == []
    source = open_source(path)
    streamed = [row for window in source.windows() for row in window.rows]
    assert [text_of(row, source.text) for row in streamed] == [(t, None) for t in TABLE["text"]]
    assert source.rows == 3


def test_one_row_is_one_row_in_every_form(write):
    for number, content in enumerate([
        '{"text": "a", "label": "x"}', '{"text": {"0": "a"}, "label": {"0": "x"}}',
        '{"0": {"text": "a", "label": "x"}}', '{"text": ["a"], "label": ["x"]}',
    ]):  # fmt: skip
        rows = read_file(write(f"{number}.json", content))
        assert {k: v.to_pylist() for k, v in rows.columns.items()} == {
            "text": ["a"],
            "label": ["x"],
        }


def test_columns_of_any_name_are_known_by_an_index_of_whole_numbers(write):
    content = pd.DataFrame({"u": ["a", "b"], "v": ["c", "d"]})
    for orient in ("columns", "index"):
        rows = read_file(write(f"{orient}.json", content.to_json(orient=orient)))
        assert rows.columns["v"].to_pylist() == ["c", "d"]
    with pytest.raises(DataError, match="neither level has names"):
        read_file(write("c.json", '{"a": {"b": "c"}, "d": {"b": "e"}}'))


def test_lists_take_the_names_that_are_given(write):
    from textassay.data.options import ReadOptions

    options = ReadOptions(column_names=["text", "label"])
    for suffix, content in (
        ("json", '[["a", "x"], ["b", "y"]]'),
        ("jsonl", '["a", "x"]\n["b", "y"]'),
    ):
        path = write(f"a.{suffix}", content)
        assert read_file(path, options).columns["label"].to_pylist() == ["x", "y"]
    with pytest.raises(DataError, match="--column_names"):
        read_file(write("a.json", '[["a", "x"], ["b", "y"]]'))


@pytest.mark.parametrize(
    "content",
    [
        '{"train": [{"text": "a"}], "test": [{"text": "b"}]}',
        '{"train": {"text": ["a", "b"]}, "test": {"text": ["c", "d"]}}',
    ],
)
def test_several_tables_in_one_file_are_refused_with_the_way_out(content, write):
    with pytest.raises(DataError, match=r"several tables \(train, test\).*own") as caught:
        read_file(write("a.json", content))
    assert len(str(caught.value)) < 600


def test_a_message_never_holds_a_column(write):
    content = json.dumps({"text": {str(n): "x" * 500 for n in range(50)}, "label": 3})
    with pytest.raises(DataError) as caught:
        from textassay.data.columns import find_columns

        find_columns(read_file(write("a.json", content)))
    assert len(str(caught.value)) < 600


def test_nan_is_no_text_in_train_and_predict(write):
    path = write("a.jsonl", '{"text": "a"}\n{"text": NaN}\n{"text": "NaN"}\n{"text": null}\n')
    assert read_file(path).columns["text"].to_pylist() == ["a", None, "NaN", None]
    source = open_source(path)
    assert [(row.line, row.reason) for row in source.bad] == [
        (2, "has no text"), (3, "has no text (NaN)"), (4, "has no text")
    ]  # fmt: skip


def test_a_first_line_that_is_broken_leaves_the_other_lines(write):
    rows = read_file(write("a.jsonl", '{"text": \n{"text": "b"}\n{"text": "c"}\n'))
    assert rows.columns["text"].to_pylist() == ["b", "c"]
    assert [row.line for row in rows.bad] == [1]
