"""Words and letters of every script: what counts as the same text, and where words end."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tables_for_tests import TEXTS

from textassay.data.words import normalized, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Good film.", "good  FILM!"),
        ("Ｇｏｏｄ　２", "good 2"),
        ("很好，真的", "很好真的。"),
        ("ﬁne", "fine"),
        ("snake_case", "snake case"),
        ("café", "cafe\u0301"),
        ("İstanbul", "istanbul"),
        ("I ❤️ it", "I ❤ it"),
        ("می\u200cخواهم", "میخواهم"),
        ("यह दिन है।", "यह दिन है"),
    ],
)
def test_case_width_spaces_and_punctuation_do_not_make_another_text(one, other):
    assert normalized(one) == normalized(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("😀", "😢"), ("!", "?"), ("good", "goods"), ("1", "2"), ("很好", "不好"),
        ("दिन", "दान"), ("ไม่ดี", "ไม่ดู"), ("কাল", "কূল"), ("தமிழ்", "தமிழா"), ("ကား", "ကီး"),
    ],
)  # fmt: skip
def test_texts_that_say_something_else_stay_apart(one, other):
    assert normalized(one) != normalized(other)


@given(st.text(st.characters(exclude_categories=["M", "C"])) | TEXTS)
def test_without_marks_what_counts_is_what_python_calls_letters_and_digits(text):
    folded = unicodedata.normalize("NFKC", text).lower()
    if not any(unicodedata.category(character).startswith("M") for character in folded):
        assert normalized(text) == re.sub(r"[\W_]+", "", folded) or folded


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("यह फिल्म बहुत अच्छी है", ["यह", "फिल्म", "बहुत", "अच्छी", "है"]),
        ("می\u200cخواهم بروم", ["می\u200cخواهم", "بروم"]),
        ("it's a naïve x² snake_case", ["it", "naïve", "x²", "snake_case"]),
        ("cafe\u0301 ❤️ 😀", ["cafe\u0301"]),
    ],
)
def test_a_word_keeps_its_vowel_signs_and_joiners(text, found):
    assert words(text) == found


@given(st.text(st.characters(max_codepoint=0x24F)))
def test_words_of_latin_script_are_those_of_scikit_learn(text):
    assert words(text) == re.findall(r"(?u)\b\w\w+\b", text)
