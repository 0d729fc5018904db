"""One value of JSON or Arrow as the text that stands for it."""

import datetime
from decimal import Decimal

import pytest

from textassay.data.cells import (
    BYTES,
    LIST,
    OBJECT,
    is_missing,
    json_value,
    kind_of_value,
    plain_label,
    text_of_value,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"), (None, None), (True, "true"), (3, "3"), (0.5, "0.5"),
        (float("nan"), None), (Decimal("NaN"), None), (Decimal("0"), "0"),
        (Decimal("1E+2"), "100"), (Decimal("2.50"), "2.50"), ("é".encode(), "é"),
        (b"\xff\xfe", None), ([], None), (["praise"], "praise"), ([[7]], "7"),
        (["a", "b"], '["a", "b"]'), ({"a": 1}, '{"a": 1}'),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        ([Decimal("1"), b"b"], '[1, "b"]'),
    ],
)  # fmt: skip
def test_a_value_is_the_text_that_a_csv_would_hold(value, text):
    assert text_of_value(value) == text


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("x", None), ([], None), (["x"], None), ([b"\xff"], BYTES), (b"x", None), (b"\xff", BYTES),
        ([1, 2], LIST), ({}, OBJECT), ([{"a": 1}], OBJECT), (3, None), (None, None),
    ],
)  # fmt: skip
def test_lists_objects_and_other_bytes_are_no_text(value, kind):
    assert kind_of_value(value) == kind


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("['praise']", "praise"), ('["praise"]', "praise"), (" [ 'a, b' ] ", "a, b"), ("[3]", "3"),
        ("[]", None), ("[ ]", None), (None, None), ("praise", "praise"), ("[smile]", "[smile]"),
        ("['a', 'b']", "['a', 'b']"), ("['it's']", "['it's']"), ("[1.5]", "1.5"),
        ("['a'] and ['b']", "['a'] and ['b']"),
    ],
)  # fmt: skip
def test_a_label_spelt_as_a_list_of_one_is_that_label(written, label):
    assert plain_label(written) == label


@pytest.mark.parametrize("text", [None, "", " ", "NaN", "nan", "None", "NULL", "null", " <NA> "])
def test_what_programs_write_for_no_text_is_none(text):
    assert is_missing(text)


@pytest.mark.parametrize("text", ["none", "Nan", "nan bread", "no"])
def test_a_word_of_a_person_is_a_text(text):
    assert not is_missing(text)


def test_json_holds_numbers_as_numbers():
    assert [json_value(Decimal(text)) for text in ("3", "2.5", "NaN")] == [3, 2.5, None]
    assert json_value(b"\xff") is None
