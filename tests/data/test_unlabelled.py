"""Texts without labels: from every format, none that is tested on, none lost without a word."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textassay.config.schema import DataSection
from textassay.data.clean import SCHEMA
from textassay.data.unlabelled import load_unlabelled
from textassay.errors import DataError

SKIPPING = DataSection(on_bad_rows="skip")


def split_of(*texts):
    rows = [{"text": text, "label": "a", "file": "f", "line": 1} for text in texts]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def test_every_format_gives_its_texts(write, tmp_path) -> None:
    files = [
        write("a.csv", "review,stars\none,5\n"),
        write("b.jsonl", json.dumps({"text": "two"}) + "\n"),
        write("c.tsv", "text\nthree\n"),
        tmp_path / "d.parquet",
    ]
    pq.write_table(pa.table({"content": ["four"]}), files[-1])
    table, notes = load_unlabelled([*map(str, files)], DataSection(), [])
    assert table["text"].to_pylist() == ["one", "two", "three", "four"]
    assert table["label"].to_pylist() == [None] * 4
    assert table["file"].to_pylist() == [*map(str, files)]
    assert "unlabelled: 4 texts to learn the teacher's answers on" in notes


def test_no_text_of_a_split_that_judges_is_learned(write) -> None:
    path = write("a.csv", "text\nA fine film!\nnew\na  FINE film\nthe worst\n")
    held_out = [split_of("a fine film"), split_of("The worst.", "other")]
    table, notes = load_unlabelled([str(path)], DataSection(), held_out)
    assert table["text"].to_pylist() == ["new"]
    assert table["line"].to_pylist() == [3]
    assert "unlabelled: 3 texts left out that stand in validation or test" in notes


def test_rows_without_a_text_are_refused_or_counted(write) -> None:
    path = str(write("a.csv", 'text,n\none,1\n" ",2\ntwo,3\n'))
    with pytest.raises(DataError, match="line 3: has no text"):
        load_unlabelled([path], DataSection(), [])
    table, notes = load_unlabelled([path], SKIPPING, [])
    assert table["text"].to_pylist() == ["one", "two"]
    assert any("1 row left out" in note for note in notes)


def test_the_column_of_the_labelled_rows_is_taken_where_it_is(write) -> None:
    told = DataSection(text_column="body")
    both, plain = write("a.csv", "text,body\nx,one\n"), write("b.csv", "text\ntwo\n")
    table, _ = load_unlabelled([str(both), str(plain)], told, [])
    assert table["text"].to_pylist() == ["one", "two"]


def test_a_file_without_a_text_column_is_refused(write) -> None:
    path = write("a.csv", "number,other\n1,2\n")
    with pytest.raises(DataError, match="has no text column among 'number', 'other'"):
        load_unlabelled([str(path)], DataSection(), [])


def test_no_file_is_no_text() -> None:
    table, notes = load_unlabelled([], DataSection(), [])
    assert len(table) == 0 and table.schema == SCHEMA and notes == []


def test_what_is_said_of_the_labelled_files_need_not_fit_the_others(write):
    path = write("more.jsonl", '{"text": "a fine day"}\n')
    section = DataSection(delimiter=";", skip_rows=1)
    table, _ = load_unlabelled([str(path)], section, [])
    assert table["text"].to_pylist() == ["a fine day"]
