"""Rows that stream are the rows that `read_file` reads whole, however they are cut into windows."""

import json
import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.prediction.answering import FORMATS, write_table
from tests.tables_for_tests import TEXTS

from textassay.data import json_rows
from textassay.data.cells import MISSING
from textassay.data.options import ReadOptions
from textassay.data.read import read_file
from textassay.data.trained_on import TrainedOn
from textassay.errors import DataError
from textassay.prediction import rows
from textassay.prediction.rows import open_source, text_of


def streamed(source):
    return [row for window in source.windows() for row in window.rows]


@pytest.mark.parametrize("suffix", FORMATS)
@given(texts=st.lists(TEXTS, min_size=1, max_size=12), at_once=st.integers(1, 5))
def test_windows_hold_what_the_whole_file_holds(suffix, texts, at_once, tmp_path):
    columns = {"review": texts, "number": [str(number) for number in range(len(texts))]}
    path = write_table(tmp_path / f"a.{suffix}", columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "WINDOW_ROWS", at_once)
        source = open_source(path)
        found = streamed(source)
        assert max(len(window.rows) for window in source.windows()) <= at_once
    whole = read_file(path)
    assert [row.line for row in found] == whole.lines.to_pylist()
    missing = {text: f"has no text ({text.strip()})" for text in texts if text.strip() in MISSING}
    wanted = [(text, missing.get(text)) for text in texts]
    assert [text_of(row, source.text) for row in found] == wanted
    assert source.text == "review" and source.names == list(whole.columns)
    assert source.rows == len(texts) and source.bad_rows == sum(map(missing.__contains__, texts))
    assert streamed(source) == found


def test_a_window_ends_where_its_texts_get_long(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "WINDOW_CHARACTERS", 1000)
    for suffix in FORMATS:
        path = write_table(tmp_path / f"a.{suffix}", {"text": ["x" * 400] * 200})
        sizes = [len(window.rows) for window in open_source(path).windows()]
        assert sum(sizes) == 200 and max(sizes) == 3, suffix


BAD = {
    "a.csv": ("text,id\na,1\nb\nc,1,2\nd,4\n", {3: "has 1 fields", 4: "has 3 fields"}),
    "b.jsonl": (
        '{"text": "a"}\n{broken\n[1]\n{"id": 1}\n{"text": null}\n{"text": "\\ud83d"}\n\n"x"\n',
        {2: "not valid JSON", 3: "not an object", 4: "has no text", 5: "has no text",
         6: "half of a surrogate pair", 8: "not an object"},
    ),
    "c.json": ('[{"text": "a"}, 7, {"text": null}]', {2: "not an object", 3: "has no text"}),
    "d.jsonl": ('{"text": "a"}\n' + "1" * 5000 + "\n" + "[" * 100_000 + "\n",
                {2: "a number is too long", 3: "nested too deeply"}),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_rows_that_cannot_be_used_are_all_counted_and_keep_their_place(name, write):
    content, wanted = BAD[name]
    source = open_source(write(name, content))
    found = {row.line: text_of(row, source.text)[1] for row in streamed(source)}
    assert {line for line, problem in found.items() if problem} == set(wanted)
    assert all(reason in found[line] for line, reason in wanted.items())
    assert source.bad_rows == len(wanted)
    assert [row.line for row in source.bad] == sorted(wanted)[:3]
    assert list(found) == sorted(found)


def test_a_row_that_is_too_wide_loses_nothing(write):
    source = open_source(write("a.csv", "text,id\na,1,2,3\n"))
    assert streamed(source)[0].cells == {"text": "a", "id": "1,2,3"}


def test_null_texts_of_parquet_are_bad_and_empty_ones_are_texts(tmp_path):
    path = write_table(tmp_path / "a.parquet", {"text": ["a", None, ""]})
    source = open_source(path)
    assert [text_of(row, "text") for row in streamed(source)] == [
        ("a", None), ("", "has no text"), ("", None)
    ]  # fmt: skip


def test_the_texts_column_is_the_one_that_is_named(write):
    path = write("a.csv", "review,content\na,b\n")
    with pytest.raises(DataError, match="--text_column"):
        open_source(path)
    assert text_of(streamed(open_source(path, "content"))[0], "content")[0] == "b"
    headless = write("b.csv", "x,1\ny,2\n")
    assert open_source(headless, None, ReadOptions(column_names=["text", "id"])).rows == 2


def test_a_large_array_is_refused_with_the_way_out(tmp_path, monkeypatch):
    path = write_table(tmp_path / "a.json", {"text": ["a", "b"]})
    monkeypatch.setattr(json_rows, "LARGEST_ARRAY", path.stat().st_size)
    assert open_source(path).rows == 2
    monkeypatch.setattr(json_rows, "LARGEST_ARRAY", path.stat().st_size - 1)
    with pytest.raises(DataError, match="JSON lines"):
        open_source(path)


def test_json_lines_under_the_name_of_json_are_read(write):
    path = write("a.json", "".join(json.dumps({"text": text}) + "\n" for text in "abc"))
    assert [row.cells["text"] for row in streamed(open_source(path))] == ["a", "b", "c"]


@pytest.mark.parametrize("damage", ["head", "pages", "text"])
def test_a_broken_parquet_file_is_named(damage, tmp_path):
    path = write_table(tmp_path / "a.parquet", {"text": [f"text {n}" for n in range(5000)]})
    content = path.read_bytes()
    if damage == "head":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "pages":
        path.write_bytes(content[:4] + b"\xff" * 2000 + content[2004:])
    else:
        broken = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
        pq.write_table(pa.table({"text": broken}), path)
    with pytest.raises(DataError, match=r"a\.parquet: is not a readable Parquet file"):
        open_source(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_that_may_not_be_read_is_named():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = write_table(Path(folder) / "a.csv", {"text": ["a"]})
        path.chmod(0o000)
        os.seteuid(65534)
        try:
            with pytest.raises(DataError, match="may not be read"):
                open_source(path)
        finally:
            os.seteuid(0)


JOINED = TrainedOn(text_column="title,body")


@pytest.mark.parametrize(
    "content",
    [
        "title,body\na,b\nc,\n,d\n",
        '{"title": "a", "body": "b"}\n{"title": "c"}\n{"title": null, "body": "d"}\n',
    ],
)
def test_a_model_that_was_trained_on_joined_columns_joins_them_where_they_are(content, write):
    name = "a.csv" if content.startswith("title") else "a.jsonl"
    source = open_source(write(name, content), model=JOINED)
    assert source.text == "title,body"
    assert [text_of(row, source.text)[0] for row in streamed(source)] == ["a b", "c", "d"]
    assert open_source(write("b.csv", "text\na\nb\n"), model=JOINED).text == "text"


def test_a_second_column_of_texts_is_noted_where_the_text_was_guessed(write):
    rows = "".join(f"the first text {n},another text of {n}\n" for n in range(9))
    path = write("a.csv", f"text,reply\n{rows}")
    assert "'reply' holds texts too" in open_source(path).notes[0]
    assert open_source(path, "text").notes == []
