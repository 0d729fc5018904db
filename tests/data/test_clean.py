"""Rows that can be used, and the place and reason of every other one."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tables_for_tests import TEXTS, pairs_of, table_of

from textassay.data.clean import (
    refuse_strange_labels,
    settle_bad_rows,
    usable_rows,
)
from textassay.data.columns import Columns
from textassay.data.label_values import LabelColumn, LabelRules, read_label_values
from textassay.data.read import BadRow, table_rows
from textassay.errors import DataError

STARS = {"1": "bad", "2": "good"}
CELLS = st.none() | st.sampled_from(["", " ", "nan", "0", "1.0", "[1, 2]", "0,3"]) | TEXTS


def read(rows, meanings=None):
    names = Columns("text", "label")
    labels = read_label_values([LabelColumn.of(rows, "label")], LabelRules(meanings=meanings))
    return usable_rows(rows, names, labels)


def clean(pairs, values=None):
    columns = {"text": [text for text, _ in pairs], "label": [label for _, label in pairs]}
    table = pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()})
    return read(table_rows("a.csv", table), values)


def labels_of(*labels, values=None):
    return clean([("a", label) for label in labels], values).table["label"].to_pylist()


@given(st.lists(st.tuples(CELLS, CELLS)))
def test_every_row_is_either_used_or_named(pairs):
    usable = clean(pairs)
    used = usable.table["line"].to_pylist()
    named = [row.line for row in usable.bad]
    assert sorted(used + named) == list(range(1, len(pairs) + 1))
    assert used == sorted(used)
    assert named == sorted(named)
    assert usable.table["text"].to_pylist() == [pairs[line - 1][0] for line in used]
    assert set(usable.table["file"].to_pylist()) <= {"a.csv"}


def test_rows_that_could_not_be_parsed_are_named_among_the_others_by_line():
    rows = table_rows("a.csv", pa.table({"text": ["", "b", ""], "label": ["x", "x", "x"]}))
    rows.bad.append(BadRow("a.csv", 2, "has 3 fields"))
    usable = read(rows)
    assert [row.line for row in usable.bad] == [1, 2, 3]


@pytest.mark.parametrize("text", [None, "", "  ", "\t\n", "\u3000"])
def test_a_row_without_a_text_is_named(text):
    assert [str(row) for row in clean([("a", "x"), (text, "x")]).bad] == [
        "a.csv, line 2: has no text"
    ]


@pytest.mark.parametrize("label", [None, "", " "])
def test_a_row_without_a_label_is_named(label):
    assert [row.reason for row in clean([("a", label)]).bad] == ["has no label"]


@pytest.mark.parametrize("label", ["NaN", "null", "none"])
def test_a_word_for_nothing_is_no_label_and_the_way_to_make_it_a_class_is_said(label):
    bad = clean([("a", label)]).bad
    assert [row.reason for row in bad] == [f"has no label ({label})"]
    with pytest.raises(DataError, match="has to stand in --labels"):
        settle_bad_rows(bad, "error")
    assert "has to stand in --labels" in settle_bad_rows(bad, "skip")[0]


@pytest.mark.parametrize("label", ["0,3", "[0, 3]", '["joy", "fear"]', "1,2,3"])
def test_a_row_with_several_labels_is_named(label):
    [row] = clean([("a", label)]).bad
    assert f"several labels ({label})" in row.reason


def test_a_file_in_which_no_row_can_be_used_is_an_empty_table():
    usable = clean([("", "x"), ("a", "")])
    assert pairs_of(usable.table) == []
    assert len(usable.bad) == 2
    assert usable.table.schema == clean([("a", "x")]).table.schema


@pytest.mark.parametrize("label", ["1", " 1 ", "1.0", "1.", "1.00", "1e0"])
def test_a_whole_number_is_the_same_label_however_a_spreadsheet_writes_it(label):
    assert labels_of(label) == ["1"]


@pytest.mark.parametrize("label", ["v1.0", "1.5", "good", "very good", "好", "one,two", "-1"])
def test_any_other_label_stands_as_it_is(label):
    assert labels_of(label) == [label]


def test_what_stands_in_the_column_becomes_the_name_that_it_means():
    assert labels_of("2", "1.0", "good", values=STARS) == ["good", "bad", "good"]


@pytest.mark.parametrize("label", ["0", "3", "great"])
def test_a_value_that_the_catalog_does_not_know_is_refused_with_its_place(label):
    with pytest.raises(DataError, match=rf"a\.csv, line 2: '{label}' .*\(bad, good\)"):
        labels_of("1", label, values=STARS)


@pytest.mark.parametrize("label", ["0.5", "3.14", ".5", "1e-3"])
def test_a_measurement_is_refused_as_a_label(label):
    with pytest.raises(DataError, match=r"train\.csv, line 3: .*measurement"):
        refuse_strange_labels(table_of([("a", "1"), ("b", label)]))


@pytest.mark.parametrize("labels", [["1", "0", "good"], ["good", "bad", "0"]])
def test_words_beside_numbers_are_refused_with_both_places(labels):
    with pytest.raises(DataError, match="write all labels alike") as caught:
        refuse_strange_labels(table_of([("a", label) for label in labels]))
    word, number = (4, 2) if labels[0] == "1" else (2, 4)
    assert f"train.csv, line {word}: the label 'good'" in str(caught.value)
    assert f"line {number} of train.csv" in str(caught.value)


@pytest.mark.parametrize("labels", [["0", "1", "-1"], ["a", "b"], ["好", "坏"], []])
def test_classes_are_accepted(labels):
    refuse_strange_labels(table_of([("a", label) for label in labels]))


@given(st.integers(1, 2000))
def test_bad_rows_stop_the_run_or_are_counted_and_the_first_are_shown(count):
    bad = [BadRow("a.csv", line, "has no text") for line in range(2, count + 2)]
    with pytest.raises(DataError) as caught:
        settle_bad_rows(bad, "error")
    [note] = settle_bad_rows(bad, "skip")
    for message in (str(caught.value), note):
        assert message.startswith(f"{count:,} row")
        assert message.count("has no text") == min(count, 3)
        assert (f"and {count - 3:,} more" in message) == (count > 3)
    assert "--on_bad_rows skip" in str(caught.value)


@pytest.mark.parametrize("on_bad_rows", ["error", "skip"])
def test_without_bad_rows_there_is_nothing_to_say(on_bad_rows):
    assert settle_bad_rows([], on_bad_rows) == []
