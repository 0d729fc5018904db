"""One file of any format becomes the same columns, with the place of every row."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tables_for_tests import TEXTS

from textassay.data.options import ReadOptions
from textassay.data.read import read_file
from textassay.errors import DataError

FORMATS = ("csv", "tsv", "json", "jsonl", "parquet")


def as_csv(rows, delimiter):
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter).writerows([["text", "label"], *rows])
    return stream.getvalue()


def as_format(rows, suffix):
    """The bytes of a file of `text` and `label` in that format."""
    items = [{"text": text, "label": label} for text, label in rows]
    if suffix in ("csv", "tsv"):
        return as_csv(rows, "," if suffix == "csv" else "\t").encode()
    if suffix == "json":
        return json.dumps(items).encode()
    if suffix == "jsonl":
        return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items).encode()
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(items), sink)
    return sink.getvalue()


def columns_of(rows):
    return {name: values.to_pylist() for name, values in rows.columns.items()}


def refusal(path, *arguments):
    with pytest.raises(DataError) as caught:
        read_file(path, *arguments)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


@pytest.mark.parametrize("suffix", FORMATS)
@given(rows=st.lists(st.tuples(TEXTS, st.sampled_from(["good", "7"])), min_size=1))
def test_every_format_gives_the_same_rows(suffix, rows, write):
    read = read_file(write(f"a.{suffix}", as_format(rows, suffix)))
    assert columns_of(read) == {"text": [t for t, _ in rows], "label": [n for _, n in rows]}
    first = 2 if suffix in ("csv", "tsv") else 1
    assert read.lines.to_pylist() == list(range(first, first + len(rows)))
    assert read.bad == []
    assert len(read) == len(rows)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_file_of_more_rows_than_a_batch_is_read_to_the_last(suffix, write):
    rows = [(f"text {number}", str(number % 3)) for number in range(100_001)]
    read = read_file(write(f"a.{suffix}", as_format(rows, suffix)))
    assert columns_of(read)["text"] == [text for text, _ in rows]
    assert len(read.lines) == len(rows)


def test_a_row_of_another_width_is_bad_and_all_others_are_read(write):
    read = read_file(write("a.csv", "text,label\na,0\nb\nc,1\nd,1,2\ne,0\n"))
    assert columns_of(read) == {"text": ["a", "c", "e"], "label": ["0", "1", "0"]}
    assert read.lines.to_pylist() == [2, 4, 6]
    assert [(row.line, "fields" in row.reason) for row in read.bad] == [(3, True), (5, True)]
    assert str(read.bad[0]).startswith(f"{read.file}, line 3: ")


def test_a_file_without_a_header_takes_the_names_it_is_given(write):
    read = read_file(
        write("a.tsv", "a\t0\tx1\nb\t1\tx2\n"), ReadOptions(column_names=["text", "label", "id"])
    )
    assert columns_of(read) == {"text": ["a", "b"], "label": ["0", "1"], "id": ["x1", "x2"]}
    assert read.lines.to_pylist() == [1, 2]


def test_more_names_than_columns_make_every_row_bad(write):
    read = read_file(
        write("a.csv", "a,0\nb,1\n"), ReadOptions(column_names=["text", "label", "id"])
    )
    assert [(row.line, row.reason) for row in read.bad] == [
        (1, "has 2 fields for 3 columns"),
        (2, "has 2 fields for 3 columns"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_the_first_column_has_its_plain_name_in_every_encoding(encoding, write):
    content = "text,label\n房间很干净，服务也不错。,好\n".encode(encoding)
    assert list(read_file(write("a.csv", content)).columns) == ["text", "label"]


def test_spaces_around_a_column_name_do_not_count(write):
    assert list(read_file(write("a.csv", "text , label\na,0\n")).columns) == ["text", "label"]


def test_an_unusual_encoding_is_noted(write):
    read = read_file(write("a.csv", "text,label\n房间很干净，服务也不错。,好\n".encode("gb18030")))
    assert read.notes == ["read as GB18030"]


def test_values_that_are_no_text_become_what_a_csv_would_hold(write):
    values = {"i": 1, "f": 1.0, "b": True, "n": None, "one": ["a"], "several": [1, 2]}
    expected = {"i": ["1"], "f": ["1.0"], "b": ["true"], "n": [None], "one": ["a"],
                "several": ["[1, 2]"]}  # fmt: skip
    assert columns_of(read_file(write("a.jsonl", json.dumps(values)))) == expected
    path = write("a.parquet", b"")
    pq.write_table(pa.Table.from_pylist([values]), path)
    assert columns_of(read_file(path)) == expected


@pytest.mark.parametrize(
    "content",
    [
        '[{"text": "a", "label": 0}, {"text": "b", "label": 1}]',
        '{"version": 1, "data": [{"text": "a", "label": 0}, {"text": "b", "label": 1}]}',
        '{"text": "a", "label": 0}\n{"text": "b", "label": 1}\n',
    ],
    ids=["a list", "a list under a name", "JSON Lines under the name of JSON"],
)
def test_json_is_read_in_the_shapes_that_are_met(content, write):
    assert columns_of(read_file(write("a.json", content))) == {
        "text": ["a", "b"],
        "label": ["0", "1"],
    }


@pytest.mark.parametrize("content", ["3", "null", "true", '"text"'])
def test_json_that_is_no_list_of_objects_is_refused(content, write):
    assert "list of objects" in refusal(write("a.json", content))


def test_lines_that_are_no_objects_are_bad_and_blank_ones_are_none(write):
    lines = ['{"text": "a"}', "", "[1]", '{"text": ', "   ", '{"text": "b"}']
    read = read_file(write("a.jsonl", "\n".join(lines)))
    assert columns_of(read) == {"text": ["a", "b"]}
    assert read.lines.to_pylist() == [1, 6]
    assert sorted(row.line for row in read.bad) == [3, 4]


def test_a_name_that_an_object_lacks_is_an_empty_cell(write):
    read = read_file(write("a.jsonl", '{"text": "a"}\n{"label": 1, "text": "b"}\n'))
    assert columns_of(read) == {"text": ["a", "b"], "label": [None, "1"]}


def test_half_of_a_surrogate_pair_is_refused(write):
    assert "surrogate" in refusal(write("a.jsonl", '{"text": "\\ud83d"}\n'))


def test_a_column_that_stands_twice_is_refused(write):
    assert "'text' more than once" in refusal(write("a.csv", "text,label,text\na,0,b\n"))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "\n\n", "is empty"),
        ("a.csv", "text,label\n", "no rows"),
        ("a.xlsx", "text,label\na,0\n", "none of .csv"),
        ("a.parquet", "text,label\na,0\n", "Parquet"),
        ("a.json", '[{"text": ]', "line 1: is not valid JSON"),
        ("a.json", '[{"text": "a"},\n{"text"]', "line 2: is not valid JSON"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(name, content, reason, write):
    assert reason in refusal(write(name, content))


def test_a_file_that_is_missing_or_a_folder_is_named(tmp_path):
    assert "no such file" in refusal(tmp_path / "nowhere.csv")
    assert "no such file" in refusal(tmp_path)
