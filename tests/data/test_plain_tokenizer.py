"""The tokenizer without transformers gives the token ids that the one with it gives."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models_for_tests import TEXTS, tiny_bert, tiny_gpt2, tiny_llama
from tokenizers import Tokenizer

from textassay.data.encode import encode_texts
from textassay.data.plain_tokenizer import PlainTokenizer
from textassay.data.prompt import Prompt
from textassay.models.classifier import load_tokenizer

LENGTH = 20
PROMPT = Prompt("Read: ", " good?")
STRANGE = ["", " ", "\x00", "😀" * 40, "<b>bold</b>", "مرحبا بالعالم", "word " * 200, *TEXTS]


@pytest.fixture(scope="module", params=[tiny_bert, tiny_gpt2, tiny_llama])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    folder: Path = request.param(tmp_path_factory.mktemp("base"))
    tokenizer = load_tokenizer(str(folder))
    tokenizer.save_pretrained(folder / "saved")
    return tokenizer, folder / "saved" / "tokenizer.json"


@pytest.mark.parametrize("prompt", [None, PROMPT])
def test_strange_texts_have_the_same_ids(pair: tuple, prompt: Prompt | None) -> None:
    tokenizer, path = pair
    wanted, _ = encode_texts(STRANGE, tokenizer, LENGTH, prompt)
    plain = PlainTokenizer(path, tokenizer.pad_token_id, LENGTH, prompt)
    assert plain.ids(STRANGE) == wanted
    assert max(map(len, wanted)) <= LENGTH


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_any_text_has_the_same_ids(pair: tuple, texts: list[str]) -> None:
    tokenizer, path = pair
    texts = [text.encode(errors="ignore").decode() for text in texts]
    wanted, _ = encode_texts(texts, tokenizer, LENGTH, None)
    assert PlainTokenizer(path, tokenizer.pad_token_id, LENGTH, None).ids(texts) == wanted


def test_what_was_padded_and_cut_when_it_was_saved_does_not_matter(
    pair: tuple, tmp_path: Path
) -> None:
    tokenizer, path = pair
    wanted, _ = encode_texts(STRANGE, tokenizer, LENGTH, None)
    saved = Tokenizer.from_file(str(path))
    saved.enable_padding(length=64)
    saved.enable_truncation(3)
    saved.save(str(tmp_path / "tokenizer.json"))
    plain = PlainTokenizer(tmp_path / "tokenizer.json", tokenizer.pad_token_id, LENGTH, None)
    assert plain.ids(STRANGE) == wanted
