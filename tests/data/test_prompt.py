"""Prompted input: only the text gets shorter, and the cue after it is never lost."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.tables_for_tests import TEXTS

from textassay.config.schema import DataSection
from textassay.data.prompt import Prompt
from textassay.errors import UsageError

LABELS = ["bad", "good"]
PROMPT = Prompt.from_template("classify the text: {text}\nis this good? answer:", LABELS)
# Words that the tokenizers know, words that they do not, and characters of several bytes.
WORDS = st.sampled_from(["the", "film", "unbelievably", "zyx", "很好看", "é", "𝄞𝄞", "?", "\n"])
TEXT = st.lists(WORDS, max_size=40).map(" ".join) | TEXTS


def plain(tokenizer, text):
    return tokenizer(PROMPT.fill(text))["input_ids"]


@given(text=TEXT, extra=st.integers(0, 40))
def test_a_cut_input_fits_and_is_the_template_around_the_beginning_of_the_text(
    tokenizer, text, extra
):
    longest = len(plain(tokenizer, "")) + extra
    ids, cut = PROMPT.encode(text, tokenizer, longest)
    assert len(ids) <= longest
    assert cut == (len(plain(tokenizer, text)) > longest)
    beginnings = [text[:end] for end in range(len(text) + 1)]
    assert any(ids == plain(tokenizer, kept) for kept in (beginnings if cut else [text]))


@given(text=TEXT, extra=st.integers(0, 40))
def test_the_cue_is_never_cut(tokenizer, text, extra):
    longest = len(plain(tokenizer, "")) + extra
    ids, _ = PROMPT.encode(text, tokenizer, longest)
    decoded = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    cue = "answer:"
    assert decoded.replace(" ", "").endswith(cue)
    assert decoded.replace(" ", "").startswith("classifythetext:")


@given(text=TEXT)
def test_what_fits_is_tokenised_as_it_stands(tokenizer, text):
    whole = plain(tokenizer, text)
    assert PROMPT.encode(text, tokenizer, len(whole)) == (whole, False)


@given(count=st.integers(1, 60), extra=st.integers(1, 30))
def test_of_plain_words_no_more_is_cut_than_must_be(tokenizer, count, extra):
    text = " ".join(["the"] * count)
    longest = len(plain(tokenizer, "")) + extra
    ids, _ = PROMPT.encode(text, tokenizer, longest)
    # Every word is one token, and one that touches the template may be two.
    assert len(ids) >= min(longest, len(plain(tokenizer, text))) - 2


def test_a_prompt_that_does_not_fit_by_itself_is_refused(tokenizer):
    alone = len(plain(tokenizer, ""))
    assert PROMPT.encode("a film", tokenizer, alone) == (plain(tokenizer, ""), True)
    with pytest.raises(UsageError, match=rf"max_seq_length: .* {alone} tokens, more than"):
        PROMPT.encode("a film", tokenizer, alone - 1)


@pytest.mark.parametrize("template", ["", "no place", "{text} and {text}", "{ text }"])
def test_a_template_has_exactly_one_place_for_the_text(template):
    with pytest.raises(ValidationError, match=r"\{text\} exactly once"):
        DataSection(prompt=template)


def test_the_labels_are_filled_in_as_a_json_list_on_either_side():
    prompt = Prompt.from_template("{class_labels}: {text} {class_labels}?", ["好", 'so "so"'])
    listed, _, rest = prompt.fill("{class_labels}").partition(": ")
    assert json.loads(listed) == ["好", 'so "so"']
    assert rest == f"{{class_labels}} {listed}?"


@given(head=TEXTS, tail=TEXTS, text=TEXTS)
def test_everything_else_in_a_template_stands_as_it_is(head, tail, text):
    prompt = Prompt.from_template(f"{head}{{text}}{tail}", LABELS)
    assert prompt.fill(text) == head + text + tail
