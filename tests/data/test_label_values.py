"""What stands in a label column, and the class that each value means."""

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tables_for_tests import TEXTS

from textassay.data.label_values import (
    LabelColumn,
    LabelRules,
    lookalike_key,
    read_label_values,
)

CODES = ["250", "250.0", "250.00", "427.0"]
VALUES = st.none() | st.sampled_from(
    ["", "none", "1", "1.0", "01", "a", "A", "a\u200b", "b", "a,b", "[1,2]", "1e400", "1e-400"]
) | TEXTS  # fmt: skip


def read(*columns, has_numbers=False, **rules):
    arrays = [pa.chunked_array([pa.array(column, pa.large_string())]) for column in columns]
    named = [LabelColumn(f"{n}.csv", values, has_numbers) for n, values in enumerate(arrays)]
    return read_label_values(named, LabelRules(**rules))


def classes_of(*labels, **rules):
    found = read(labels, **rules)
    return [found.classes[label] for label in labels]


@given(
    st.lists(st.lists(VALUES, min_size=1), min_size=1, max_size=3),
    st.sampled_from(["auto", "category", "number"]),
    st.booleans(),
)
def test_every_value_has_a_class_or_a_reason_and_never_both(columns, kind, normalize):
    found = read(*columns, label_type=kind, normalize=normalize)
    assert set(found.classes) | set(found.problems) == {value for of in columns for value in of}
    assert not set(found.classes) & set(found.problems)
    assert all(name and name == name.strip() for name in found.classes.values())


@given(st.lists(VALUES.filter(bool), min_size=1))
def test_what_is_known_or_a_category_is_the_class_as_it_is_written(labels):
    plain = [label.strip() for label in labels if label.strip()]
    for found in (read(plain, known=plain), read(plain, known=plain, label_type="category")):
        assert found.classes == {label: label for label in plain}
        assert found.settled >= set(plain)


def test_codes_stay_apart_where_one_file_writes_a_number_in_several_ways():
    found = read(CODES)
    assert [found.classes[code] for code in CODES] == CODES
    assert found.settled == set(CODES)
    [note] = found.notes
    assert "'250' and '250.0' and '250.00'" in note
    assert "--label_type number" in note


def test_of_two_files_each_may_write_numbers_in_its_own_way():
    found = read(["0", "1"], ["0.0", "1.0"])
    assert set(found.classes.values()) == {"0", "1"}
    assert found.notes == []


@pytest.mark.parametrize(
    ("rules", "meant"),
    [
        ({"label_type": "number"}, ["250", "250", "250", "427"]),
        ({"label_type": "category"}, CODES),
        ({"has_numbers": True}, ["250", "250", "250", "427"]),
        ({"known": ["250", "427"]}, ["250", "250", "250", "427"]),
        ({"known": CODES}, CODES),
        ({"meanings": {"250": "flu", "427": "heart"}}, ["flu", "flu", "flu", "heart"]),
    ],
)
def test_the_user_decides_what_numbers_are(rules, meant):
    found = read(CODES, **rules)
    assert [found.classes[code] for code in CODES] == meant
    assert found.notes == []


def test_a_word_is_no_number_where_labels_are_told_to_be_numbers():
    found = read(["1", "1.0", "one"], label_type="number")
    assert found.classes == {"1": "1", "1.0": "1"}
    assert found.problems == {"one": "has a label that is no number (one)"}


def test_sloppy_measurements_are_no_codes():
    found = read(["1", "1.0", "2.5"])
    assert found.classes == {"1": "1", "1.0": "1", "2.5": "2.5"}
    assert found.settled == set()


@pytest.mark.parametrize("label", ["1e400", "12345678901234567890.0", "1e16"])
def test_a_number_that_no_float_holds_stands_as_it_is(label):
    assert classes_of(label) == [label]


@pytest.mark.parametrize("word", ["none", "None", "nan", "NULL", "null", "<NA>"])
@pytest.mark.parametrize("rules", [{}, {"label_type": "category"}, {"normalize": True}])
def test_a_word_for_nothing_is_a_class_only_where_it_is_named(word, rules):
    assert read([word, "x"], **rules).problems == {word: f"has no label ({word})"}
    assert classes_of(word, "x", known=[word, "x"], **rules) == [word, "x"]


@pytest.mark.parametrize("separator", [",", ", ", "|", ";", "; "])
def test_labels_of_labels_are_several(separator):
    both = separator.join(["toxic", "insult"])
    found = read(["toxic", both, "insult"])
    assert found.problems == {both: f"looks like several labels ({both}) where one is expected"}
    for rules in ({"known": [both]}, {"label_type": "category"}):
        assert classes_of("toxic", both, "insult", **rules) == ["toxic", both, "insult"]


def test_labels_that_never_stand_alone_are_several_where_they_recur():
    assert len(read(["a|b", "b|c", "a|c"]).problems) == 3


@pytest.mark.parametrize(
    "labels",
    [
        ["Home, Garden", "Sports, Outdoors", "Books"],
        ["Paris, France", "Lyon, France", "Berlin, Germany"],
        ["a,", ",b", "a", "b"],
        ["C|C", "C"],
    ],
)
def test_a_separator_in_a_name_makes_no_several_labels(labels):
    assert classes_of(*labels) == labels


def test_labels_that_look_alike_are_named_with_their_rows():
    found = read(["praise"] * 3 + ["praise\u200b"] * 2 + ["Praise", "blame"])
    assert len(set(found.classes.values())) == 4
    [note] = found.notes
    for shown in ("'praise' (3 rows)", "'praise\\u200b' (2 rows)", "'Praise' (1 row)"):
        assert shown in note
    assert "--normalize_labels" in note


@pytest.mark.parametrize("other", ["praise\u200b", "PRAISE", "\ufeffpraise", "ｐraise", "praise "])
def test_labels_that_look_alike_become_the_most_frequent_one(other):
    labels = ["praise", "praise", other, "two words", "two\u00a0 words"]
    found = read(labels, normalize=True)
    assert Counter(found.classes[label] for label in labels).keys() == {"praise", "two words"}


def test_labels_that_look_like_a_known_one_become_that():
    labels = ["praise", "praise", "praise", "blame"]
    assert classes_of(*labels, known=["Praise", "blame"], normalize=True) == [
        "Praise", "Praise", "Praise", "blame",
    ]  # fmt: skip


@given(TEXTS)
def test_a_key_is_its_own_key(label):
    assert lookalike_key(lookalike_key(label)) == lookalike_key(label)
