"""Which column is the text and which the label."""

import pyarrow as pa
import pytest

from textassay.data.columns import LABEL_NAMES, TEXT_NAMES, Columns, find_columns, note_unread
from textassay.data.read import table_rows
from textassay.errors import DataError

# The names that users of other tools bring along.
PROMISED_TEXTS = {"sentence", "content", "review", "comment", "text_a"}
PROMISED_LABELS = {"target", "sentiment", "stars", "category"}


def columns_of(*names, **told):
    return find_columns(table_rows("a.csv", pa.table({name: ["x"] for name in names})), **told)


def refusal(*names, **told):
    with pytest.raises(DataError) as caught:
        columns_of(*names, **told)
    assert str(caught.value).startswith("a.csv: ")
    return str(caught.value)


def test_the_promised_names_are_known():
    assert set(TEXT_NAMES) >= PROMISED_TEXTS
    assert set(LABEL_NAMES) >= PROMISED_LABELS
    assert not set(TEXT_NAMES) & set(LABEL_NAMES)


@pytest.mark.parametrize("name", TEXT_NAMES)
def test_a_known_name_is_the_text_where_it_is_the_only_one(name):
    assert columns_of("id", "label", name) == Columns(name, "label")


@pytest.mark.parametrize("name", LABEL_NAMES)
def test_a_known_name_is_the_label_where_it_is_the_only_one(name):
    assert columns_of(name, "text", "id") == Columns("text", name)


def test_text_and_label_win_over_every_other_name():
    assert columns_of("review", "label", "stars", "text") == Columns("text", "label")


def test_case_does_not_count_and_the_files_own_spelling_is_kept():
    assert columns_of("Text", "LABEL") == Columns("Text", "LABEL")
    assert columns_of("Review", "Stars") == Columns("Review", "Stars")


def test_what_the_user_says_wins():
    assert columns_of("text", "label", "b", "c", text="b", label="c") == Columns("b", "c")


@pytest.mark.parametrize(
    ("names", "role", "both"),
    [
        (("review", "title", "label"), "text", ("'review'", "'title'")),
        (("text", "stars", "sentiment"), "label", ("'stars'", "'sentiment'")),
    ],
)
def test_two_columns_that_could_be_meant_are_a_question(names, role, both):
    message = refusal(*names)
    assert f"--{role}_column" in message
    assert all(name in message for name in both)


@pytest.mark.parametrize(("names", "role"), [(("a", "label"), "text"), (("text", "b"), "label")])
def test_a_missing_column_is_answered_with_those_that_are_there(names, role):
    message = refusal(*names)
    assert f"no {role} column among '{names[0]}', '{names[1]}'" in message
    assert f"--{role}_column" in message


def test_a_misspelt_column_is_answered_with_the_nearest_one():
    assert "did you mean review_text?" in refusal("review_text", "label", text="review_txt")


def test_the_exact_name_wins_over_another_case_and_else_both_are_a_question():
    assert columns_of("Label", "label", "Text", "text") == Columns("text", "label")
    assert "'Label' and 'LABEL'" in refusal("text", "Label", "LABEL")
    assert "'Review' and 'REVIEW'" in refusal("Review", "REVIEW", "label")


def test_two_texts_are_a_question_whose_answer_may_be_both():
    assert "text_a,text_b joins them" in refusal("text_a", "text_b", "label")
    table = pa.table({"title": ["a", "", None], "body": ["b", "c", " "], "label": ["x"] * 3})
    rows = table_rows("a.csv", table)
    found = find_columns(rows, "title, body")
    assert rows.columns[found.text].to_pylist() == ["a b", "c", None]


def test_a_joined_text_cannot_hold_the_label():
    assert "both the text and the label" in refusal("title", "label", text="title,label")


def test_a_message_names_few_of_many_columns():
    names = [f"a column of a rather long name, {number}" for number in range(300)]
    assert len(refusal(*names)) < 600 and "292 more" in refusal(*names)
    assert len(refusal(*names, text="nothing like it")) < 600


PROSE = ["the man walks home", "a dog sleeps here", "she reads the news"]


@pytest.mark.parametrize(
    ("cells", "is_said"),
    [
        (PROSE, True),
        (["今天天气很好，去公园", "他明天不来上班了", "这本书我还没读完"], True),
        (["no answer was given here"] * 3, False),
        (["1", "2", "3"], False),
        (["a.txt", "b.txt", "c.txt"], False),
        (["2020-01-01 10:00", "2020-01-02 11:00", "2020-01-03 12:00"], False),
        ([None, "", " "], False),
        ([], False),
    ],
)
def test_another_column_of_texts_is_said_and_the_way_to_join_it(cells, is_said):
    notes = note_unread({"text": PROSE, "reply": cells}, "text")
    assert bool(notes) == is_said
    if is_said:
        assert "'reply' holds texts too (--text_column text,reply joins them)" in notes[0]
