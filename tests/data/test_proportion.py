"""Good files that repeat a lot, or hold long texts, are read; what is out of proportion is not."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textassay.config.schema import DataSection
from textassay.data import arrow_columns, encode
from textassay.data.delimited import LONGEST_FIELD
from textassay.data.load import load_dataset
from textassay.data.proportion import in_proportion, read_parquet, refuse_many_cells
from textassay.data.read import read_file
from textassay.errors import DataError
from textassay.prediction import rows
from textassay.prediction.rows import open_source, text_of

MILLION = 1_000_000


def repeated(count: int, *texts: str) -> pa.DictionaryArray:
    indices = pa.array(np.arange(count, dtype=np.int32) % len(texts))
    return pa.DictionaryArray.from_arrays(indices, list(texts))


@pytest.mark.parametrize("as_dictionary", [True, False])
def test_a_million_rows_of_one_label_are_read(as_dictionary: bool, tmp_path: Path) -> None:
    label = repeated(MILLION, "good")
    text = repeated(MILLION, "a good film", "a bad film")
    if not as_dictionary:
        label, text = label.cast(pa.string()), text.cast(pa.string())
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": text, "label": label}), path, compression="zstd")
    assert path.stat().st_size < 300_000
    found = read_file(path)
    assert len(found) == MILLION
    assert found.columns["label"].unique().to_pylist() == ["good"]


def test_a_column_of_objects_is_read_in_parts_and_its_lines_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow_columns, "AT_ONCE", 3)
    values = [["a"], ["b"], ["c"], ["d"], ["e", "f"], [1], ["g", "h"]]
    texts = [json.dumps(value) for value in values]
    lists = pa.array([[str(one) for one in value] for value in values])
    pq.write_table(pa.table({"text": texts, "more": lists}), tmp_path / "rows.parquet")
    found = read_file(tmp_path / "rows.parquet")
    assert found.kinds["more"] == {"a list": 5}
    assert found.columns["more"].to_pylist()[:4] == ["a", "b", "c", "d"]


FORMATS = ("csv", "jsonl", "parquet")


def write(path: Path, texts: list[str]) -> Path:
    labels = ["good" if number % 2 else "bad" for number in range(len(texts))]
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": texts, "label": labels}), path)
    elif path.suffix == ".csv":
        lines = [f"{text},{label}\n" for text, label in zip(texts, labels, strict=True)]
        path.write_text("".join(["text,label\n", *lines]))
    else:
        found = zip(texts, labels, strict=True)
        path.write_text("".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in found))
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_long_text_is_read_and_one_that_is_none_is_a_bad_row(suffix: str, tmp_path: Path) -> None:
    texts = ["word " * 10, "a" * LONGEST_FIELD, *(f"text {n}" for n in range(30))]
    path = write(tmp_path / f"long.{suffix}", texts)
    section = DataSection(path=str(path))
    whole = load_dataset(section)
    assert sum(len(table) for table in whole.splits.values()) == len(texts)
    assert open_source(path).bad_rows == 0

    path = write(tmp_path / f"longer.{suffix}", [texts[0], texts[1] + "a", *texts[2:]])
    with pytest.raises(DataError, match=r"1,000,001 characters"):
        load_dataset(DataSection(path=str(path)))
    source = open_source(path)
    assert source.bad_rows == 1
    assert "1,000,001 characters" in str(source.bad[0])
    problems = [text_of(row, source.text)[1] for w in source.windows() for row in w.rows]
    assert [bool(problem) for problem in problems] == [number == 1 for number in range(len(texts))]


def test_long_texts_that_repeat_do_not_stand_in_one_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "WINDOW_CHARACTERS", 4000)
    text = repeated(50, "a" * 1000, "b" * 1500)
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": text, "number": range(50)}), path)
    windows = list(open_source(path).windows())
    assert max(len(window.rows) for window in windows) <= 4
    for window in windows:
        assert window.typed is not None
        assert window.typed.to_pylist() == [row.cells for row in window.rows]
    assert [row.cells["number"] for window in windows for row in window.rows] == list(range(50))


def test_long_texts_are_tokenised_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "BYTES_AT_ONCE", 10)
    monkeypatch.setattr(encode, "BATCH", 3)
    table = pa.table({"text": ["aaaa", "bbbb", "cccc", "d" * 30, "e", "f", "g", "h"]})
    parts = [part["text"].to_pylist() for part in encode._parts(table)]
    assert parts == [["aaaa", "bbbb"], ["cccc"], ["d" * 30], ["e", "f", "g"], ["h"]]


def test_what_is_taken_is_said_with_the_bound(tmp_path: Path) -> None:
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    for path in (first, second):
        pq.write_table(pa.table({"text": ["a"]}), path)
    told = r"a.parquet and 1 more: [\d,]+ bytes .* 134 MB"
    with pytest.raises(DataError, match=told), in_proportion([first, second]):
        assert read_parquet(first)["text"].to_pylist() == ["a"]
        pa.array(range(2)).take(pa.array(np.zeros(60 * MILLION, np.int8)))
    before = pa.default_memory_pool().backend_name
    with in_proportion([first]):
        assert pa.default_memory_pool().backend_name == "system"
    assert pa.default_memory_pool().backend_name == before


def test_thousands_of_columns_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    columns = {f"c{number}": pa.array([1, 2], pa.int8()) for number in range(2000)}
    pq.write_table(pa.table({"text": ["a", "b"], **columns}), path)
    assert len(read_file(path).columns) == len(open_source(path).names) == 2001


def test_rows_with_names_of_their_own_are_not_a_table(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows_of_file = ({"text": "a film", f"k{number}": 1} for number in range(5000))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of_file))
    with pytest.raises(DataError, match=r"rows.jsonl: .* bytes would take more than"):
        read_file(path)


def test_cells_are_counted_before_there_are_any(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}")
    refuse_many_cells(path, 8 * MILLION)
    with pytest.raises(DataError, match=r"rows.jsonl: 2 bytes"):
        refuse_many_cells(path, 9 * MILLION)
