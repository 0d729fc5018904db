"""Cutting rows off: no text on two sides, no row lost, no label gone, and the same every time."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tests.tables_for_tests import TEXTS, pairs_of, table_of

from textassay.data.split import (
    cut,
    distinct_texts,
    group_ids,
    overlap,
    refuse_lonely_labels,
    sample,
)
from textassay.data.words import normalized
from textassay.errors import DataError

# Few texts in many spellings, so that most of them repeat, some with another label.
SPELLINGS = st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["{}", "{}!", " {} ", "“{}”"]))
TEXT = SPELLINGS.map(lambda made: made[1].format(made[0])) | st.sampled_from(["A", "Ｂ", "😀", "!"])
ROWS = st.lists(st.tuples(TEXT, st.sampled_from("xyz")), min_size=1, max_size=40)
SHARES = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 2**32 - 1)
DISTINCT = [(f"text {number}", "xyz"[number % 3]) for number in range(300)]
# Label y has two texts, and both of them also stand under x.
TWO_LABELS = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "x"), ("d", "x")]


def texts_of(table):
    return {normalized(text) for text in table["text"].to_pylist()}


@given(ROWS, SHARES, SEEDS)
@example(TWO_LABELS, 0.9, 1)
def test_every_row_stands_on_exactly_one_side_in_its_order(rows, share, seed):
    stay, gone = cut(table_of(rows), share, seed)
    assert sorted([*stay, *gone]) == list(range(len(rows)))
    assert list(stay) == sorted(stay)
    assert list(gone) == sorted(gone)


@given(ROWS, SHARES, SEEDS)
def test_no_text_stands_on_two_sides(rows, share, seed):
    table = table_of(rows)
    stay, gone = cut(table, share, seed)
    assert not texts_of(table.take(stay)) & texts_of(table.take(gone))


@given(ROWS, SHARES, SEEDS)
@example(TWO_LABELS, 0.9, 0)
@example(TWO_LABELS, 0.9, 1)
def test_every_label_stays_in_train(rows, share, seed):
    table = table_of(rows)
    stay, _ = cut(table, share, seed)
    assert {rows[number][1] for number in stay} == {label for _, label in rows}


@given(ROWS, SHARES, SEEDS)
def test_the_same_seed_gives_the_same_cut(rows, share, seed):
    first, second = cut(table_of(rows), share, seed), cut(table_of(rows), share, seed)
    assert [part.tolist() for part in first] == [part.tolist() for part in second]


def test_another_seed_gives_another_cut():
    made = {tuple(cut(table_of(DISTINCT), 0.2, seed)[1]) for seed in range(5)}
    assert len(made) == 5


@given(ROWS, ROWS, SHARES, SEEDS)
def test_what_stands_in_a_published_split_is_never_cut_off(rows, published, share, seed):
    table, other = table_of(rows), table_of(published)
    _, gone = cut(table, share, seed, [other])
    assert not texts_of(table.take(gone)) & texts_of(other)


@given(st.dictionaries(st.sampled_from("vwxyz"), st.integers(3, 80), min_size=1), SHARES, SEEDS)
def test_of_distinct_texts_every_label_gives_its_share(sizes, share, seed):
    rows = [(f"{label} {n}", label) for label, size in sizes.items() for n in range(size)]
    _, gone = cut(table_of(rows), share, seed)
    found = Counter(rows[number][1] for number in gone)
    for label, size in sizes.items():
        assert found[label] == min(max(round(share * size), 1), size - 1)


@given(st.integers(20, 400), st.floats(0.05, 0.3), SEEDS)
@example(300, 0.1, 3)
def test_a_text_that_repeats_more_often_than_the_share_stays_in_train(repeats, share, seed):
    rows = [("again", "x")] * repeats
    rows += [(f"{label} {n}", label) for label in "xy" for n in range(40)]
    _, gone = cut(table_of(rows), share, seed)
    found = Counter(rows[number] for number in gone)
    wanted = {label: round(share * len([1 for row in rows if row[1] == label])) for label in "xy"}
    if repeats > wanted["x"] + 1:
        assert not found["again", "x"]
    by_label = Counter(label for (_, label), n in found.items() for _ in range(n))
    assert by_label["y"] == wanted["y"]
    assert min(wanted["x"], 39) - 1 <= by_label["x"] <= wanted["x"] + 1


@pytest.mark.parametrize("repeats", [1, 2, 30])
def test_where_every_text_repeats_often_some_are_cut_off_all_the_same(repeats):
    rows = [(f"{label} {n}", label) for label in "xy" for n in range(5)] * repeats
    _, gone = cut(table_of(rows), 0.1, 0)
    assert Counter(rows[number][1] for number in gone) == {"x": repeats, "y": repeats}


@given(ROWS)
def test_distinct_texts_are_counted_as_groups_are(rows):
    groups = Counter(group_ids([text for text, _ in rows]).tolist())
    assert distinct_texts(table_of(rows)) == (len(groups), max(groups.values()))


@given(st.dictionaries(st.sampled_from("vwxyz"), st.integers(1, 500), min_size=1), SEEDS)
def test_a_sample_keeps_every_label_while_there_is_room(sizes, seed):
    rows = [(f"{label} {n}", label) for label, size in sizes.items() for n in range(size)]
    for count in (len(sizes), len(sizes) + 1, 20):
        assert set(sample(table_of(rows), count, seed)["label"].to_pylist()) == set(sizes)


@given(ROWS, st.integers(1, 50), SEEDS)
def test_a_sample_has_as_many_rows_as_asked_in_their_order(rows, count, seed):
    table = table_of(rows)
    chosen = sample(table, count, seed)
    assert len(chosen) == min(count, len(rows))
    lines = chosen["line"].to_pylist()
    assert lines == sorted(set(lines))
    assert pairs_of(chosen) == [rows[line - 2] for line in lines]
    assert sample(table, count, seed).equals(chosen)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5), st.integers(1, 100), SEEDS)
def test_a_sample_has_every_label_in_proportion(sizes, count, seed):
    rows = [(f"{label} {n}", str(label)) for label, size in enumerate(sizes) for n in range(size)]
    assume(count <= len(rows))
    found = Counter(sample(table_of(rows), count, seed)["label"].to_pylist())
    for label, size in enumerate(sizes):
        assert abs(found[str(label)] - size * count / len(rows)) <= 1 + len(sizes) / 2


def test_another_seed_gives_another_sample():
    made = {tuple(sample(table_of(DISTINCT), 30, seed)["line"].to_pylist()) for seed in range(5)}
    assert len(made) == 5


@given(st.lists(TEXTS))
def test_texts_share_a_group_exactly_if_they_count_as_the_same(texts):
    groups = group_ids(texts)
    for a, one in enumerate(texts):
        for b, other in enumerate(texts):
            assert (groups[a] == groups[b]) == (normalized(one) == normalized(other))


@given(ROWS, ROWS)
def test_the_overlap_counts_the_rows_whose_text_stands_elsewhere(inner, outer):
    known = {normalized(text) for text, _ in outer}
    expected = np.sum([normalized(text) in known for text, _ in inner])
    assert overlap(table_of(inner), table_of(outer)) == expected
    assert overlap(table_of(inner), table_of(inner)) == len(inner)


def test_a_label_with_a_single_text_is_refused_with_its_place():
    rows = [("a", "x"), ("b", "x"), ("only", "y"), ("ONLY!", "y")]
    refuse_lonely_labels(table_of([*rows, ("other", "y")]))
    with pytest.raises(DataError, match=r"train\.csv, line 4: the label 'y' has a single text"):
        refuse_lonely_labels(table_of(rows))
