"""Tokenised rows: cut to length, in order, and made once."""

import copy
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tables_for_tests import TEXTS, table_of

from textassay.data.encode import encode, encode_texts
from textassay.data.labels import LabelMap
from textassay.data.prompt import Prompt

LABELS = LabelMap(("bad", "good"))
PROMPT = Prompt.from_template("{text}\nanswer:", LABELS.names)
ROWS = [("the film was good", "good"), ("房间很干净，服务也不错。", "good"), ("not", "bad")]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of the cached rows, empty at first."""
    monkeypatch.setenv("TEXTASSAY_CACHE", str(tmp_path))
    return tmp_path / "encoded"


@given(
    texts=st.lists(TEXTS | st.just("the film was good " * 5), min_size=1),
    longest=st.integers(4, 40),
)
def test_a_text_is_cut_to_length_and_said_to_be(tokenizer, texts, longest):
    ids, cut = encode_texts(texts, tokenizer, longest, None)
    whole = [tokenizer(text)["input_ids"] or [tokenizer.pad_token_id] for text in texts]
    ends = len(tokenizer("")["input_ids"]) // 2  # [SEP] stays, whatever is cut
    for row, full, was_cut in zip(ids, whole, cut, strict=True):
        assert was_cut == (len(full) > longest)
        assert len(row) == min(len(full), longest)
        kept = len(row) - ends
        assert row == full[:kept] + full[len(full) - ends :]


def test_rows_that_are_cut_at_the_other_end_are_others(tokenizer, cache):
    """Also in the cache, where the same rows and the same tokenizer.json lie already."""
    left = copy.deepcopy(tokenizer)
    left.truncation_side = "left"
    table = table_of([("the film was good " * 5, "good")])
    found = [list(encode(table, one, LABELS, 8, None)["input_ids"]) for one in (tokenizer, left)]
    assert found[0] != found[1]
    assert found[1] == encode_texts(table["text"].to_pylist(), left, 8, None)[0]


@given(texts=st.lists(TEXTS, min_size=1))
def test_prompted_texts_are_encoded_one_by_one(tokenizer, texts):
    ids, cut = encode_texts(texts, tokenizer, 30, PROMPT)
    assert list(zip(ids, cut, strict=True)) == [PROMPT.encode(t, tokenizer, 30) for t in texts]


@pytest.mark.parametrize("prompt", [None, PROMPT], ids=["plain", "prompted"])
def test_every_row_is_encoded_in_order_across_batches(prompt, tokenizer, cache):
    rows = [(f"text {number} " * (number % 7), LABELS.names[number % 2]) for number in range(2_001)]
    made = encode(table_of(rows), tokenizer, LABELS, 12, prompt)
    ids, cut = encode_texts([text for text, _ in rows], tokenizer, 12, prompt)
    assert list(made["input_ids"]) == ids
    assert list(made["truncated"]) == cut
    assert list(made["length"]) == [len(row) for row in ids]
    assert [LABELS.names[label] for label in made["labels"]] == [label for _, label in rows]
    assert True in cut
    assert False in cut


def test_the_same_rows_are_encoded_once(tokenizer, cache):
    first = encode(table_of(ROWS), tokenizer, LABELS, 16, None)
    [file] = cache.iterdir()
    written = file.stat().st_mtime_ns
    second = encode(table_of(ROWS), tokenizer, LABELS, 16, None)
    assert list(cache.iterdir()) == [file]
    assert file.stat().st_mtime_ns == written
    assert second.to_list() == first.to_list()


def test_whatever_may_change_the_ids_is_encoded_anew(tokenizer, cache):
    other = copy.deepcopy(tokenizer)
    other.add_tokens(["the film"])
    made = [
        encode(table_of(ROWS), tokenizer, LABELS, 16, None),
        encode(table_of(ROWS[:2]), tokenizer, LABELS, 16, None),
        encode(table_of([(ROWS[0][0], "bad"), *ROWS[1:]]), tokenizer, LABELS, 16, None),
        encode(table_of(ROWS), tokenizer, LabelMap(("good", "bad")), 16, None),
        encode(table_of(ROWS), tokenizer, LABELS, 8, None),
        encode(table_of(ROWS), tokenizer, LABELS, 16, PROMPT),
        encode(table_of(ROWS), other, LABELS, 16, None),
    ]
    assert len(list(cache.iterdir())) == len(made)
    contents = [rows.to_list() for rows in made]
    assert all(content not in contents[:index] for index, content in enumerate(contents))


def test_rows_are_encoded_where_the_cache_cannot_be_written(
    tokenizer, write, tmp_path, monkeypatch
):
    monkeypatch.setenv("TEXTASSAY_CACHE", str(write("a file", "no folder")))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    assert len(encode(table_of(ROWS), tokenizer, LABELS, 16, None)) == len(ROWS)


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.999])
def test_a_file_in_the_cache_that_was_cut_off_is_made_anew(share, tokenizer, cache):
    """By a full disk, say; else every later run on these rows would fail."""
    table = table_of(ROWS * 700)  # more than one batch
    whole = encode(table, tokenizer, LABELS, 8, None).to_dict()
    [path] = cache.glob("*.arrow")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert encode(table, tokenizer, LABELS, 8, None).to_dict() == whole
    assert path.read_bytes() == content
