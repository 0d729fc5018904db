"""Label names and their ids: stable, stored, and complete."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tables_for_tests import TEXTS

from textassay.data.labels import LabelMap, refuse_unknown_labels
from textassay.errors import DataError

NAMES = st.text(st.sampled_from("+-012²好ab"), min_size=1) | TEXTS.filter(bool)
LABELS = st.lists(NAMES, min_size=1)


@given(LABELS, st.randoms())
def test_the_order_of_the_rows_does_not_count(labels, random):
    shuffled = [*labels, *labels]
    random.shuffle(shuffled)
    assert LabelMap.from_labels(shuffled) == LabelMap.from_labels(labels)
    assert sorted(LabelMap.from_labels(labels).names) == sorted(set(labels))


@given(LABELS)
def test_every_label_has_the_id_of_its_position(labels):
    made = LabelMap.from_labels(labels)
    assert [made.names[index] for index in made.ids(labels)] == labels
    assert sorted(made.label2id.values()) == list(range(len(made)))


@given(LABELS)
def test_a_map_comes_back_from_its_file(labels):
    made = LabelMap.from_labels(labels)
    assert LabelMap.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_more_than_ten_labels_come_back_in_their_order():
    made = LabelMap(tuple(f"label {index}" for index in range(28)))
    assert LabelMap.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "9", "1"], ("1", "9", "10")),
        (["1", "-1", "+0"], ("-1", "+0", "1")),
        (["01", "1", "0001", "001", "+1"], ("+1", "0001", "001", "01", "1")),
        (["b", "a", "B"], ("B", "a", "b")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["²", "1"], ("1", "²")),
    ],
)
def test_numbers_stand_by_value_and_words_by_alphabet(labels, names):
    assert LabelMap.from_labels(labels).names == names


def test_a_given_order_is_kept_and_labels_that_do_not_occur_are_left_out():
    made = LabelMap.from_labels(["good", "bad", "good"], ["bad", "neutral", "good"])
    assert made.names == ("bad", "good")


def test_a_label_that_train_lacks_is_refused_by_name():
    known = LabelMap(("bad", "good"))
    refuse_unknown_labels("dev.csv", {"good"}, known)
    with pytest.raises(DataError, match=r"dev\.csv: the label 'postive' stands.*bad, good"):
        refuse_unknown_labels("dev.csv", {"good", "postive"}, known)
