"""The beginning of a long text has the token ids of the whole one, with every kind of tokenizer."""

import functools
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.conftest import CORPUS, byte_level, word_piece
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from textassay.data import long_texts
from textassay.data.long_texts import LOCAL_PATTERNS, encode_beginnings, is_local
from textassay.models.packaged import packaged_folder

WORDS = [
    "the", "film", "was", "Good", "unbelievably", "don't", "it's", "naïve", "e\u0301te\u0301",
    "İst", "слово", "größe", "كلمة", "שלום", "हिन्दी", "ไทย", "电影很好看", "ㅎㅏㄴ", "한국",
    "\u1112\u1161\u11ab", "😀", "👩\u200d👩\u200d👧", "\u200b", "\ufeff", "\u00ad", "\x00",
    "\x85", "\u0600", "\u0d4e", "\ufc5e",
    "\u037a", "\u00a8", "\ufdfa", "½", "2024", "1234567", "x" * 120, "``", "''", "...", "!", "、",
    "a,b", "[SEP]", "<mask>", "covid", "▁", "Ġ", "'s", "'", "\u0301", "\u3000",
]  # fmt: skip
BETWEEN = [" ", " ", " ", "", "  ", "\n", "\t", " \n ", "\u00a0", "\r\n\r\n"]
LLAMA_3, QWEN_3_5, GPT_OSS = (
    next(one for one in LOCAL_PATTERNS if mark in one)
    for mark in (r"?\p{L}+|\p{N}{1,3}", r"[\p{L}\p{M}]+", r"\p{Lt}")
)


def trained(
    model: models.Model, trainer: trainers.Trainer, texts: list[str] | None = None, **parts: object
) -> Tokenizer:
    made = Tokenizer(model)
    for name, part in parts.items():
        setattr(made, name, part)
    made.train_from_iterator(texts or [*CORPUS, " ".join(WORDS)], trainer)
    return made


def split_by(pattern: str) -> Callable[[], Tokenizer]:
    def make() -> Tokenizer:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return trained(
            models.BPE(ignore_merges=True),
            trainers.BpeTrainer(vocab_size=400, show_progress=False,
                                initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
            pre_tokenizer=pre_tokenizers.Sequence([split, bytewise]),
            normalizer=normalizers.NFC(),
        )  # fmt: skip

    return make


def roberta() -> Tokenizer:
    """Tokens of its own that take the space before them, or stand only for whole words."""
    made = byte_level()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.add_special_tokens([AddedToken("<mask>", lstrip=True), AddedToken("[SEP]", rstrip=True)])
    made.add_tokens([AddedToken("covid", single_word=True, lstrip=True), AddedToken("film")])
    sep = ("[SEP]", made.token_to_id("[SEP]"))
    made.post_processor = processors.RobertaProcessing(sep, ("[PAD]", 0))
    return made


def unigram(**parts: object) -> Tokenizer:
    return trained(
        models.Unigram(),
        trainers.UnigramTrainer(vocab_size=300, show_progress=False, unk_token="<unk>",
                                special_tokens=["<unk>", "<mask>", "[SEP]"]),
        **parts,
    )  # fmt: skip


def xlm_roberta() -> Tokenizer:
    squeezed = normalizers.Replace(Regex(" {2,}"), " ")
    return unigram(
        normalizer=normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), squeezed]),
        pre_tokenizer=pre_tokenizers.Metaspace(),
    )


def albert() -> Tokenizer:
    quotes = [normalizers.Replace(two, '"') for two in ("``", "''")]
    plain = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    squeezed = normalizers.Replace(Regex(" {2,}"), " ")
    return unigram(
        normalizer=normalizers.Sequence([normalizers.Strip(), *quotes, *plain, squeezed]),
        pre_tokenizer=pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="first")]
        ),
    )


def word_level() -> Tokenizer:
    return trained(
        models.WordLevel(unk_token="[UNK]"),
        trainers.WordLevelTrainer(special_tokens=["[UNK]"], show_progress=False),
        normalizer=normalizers.NFD(),
        pre_tokenizer=pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(True), pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation()]
        ),
    )


def mini_lm() -> Tokenizer:
    folder = packaged_folder("sentence-transformers/all-MiniLM-L6-v2", None)
    if folder is None:
        pytest.skip("the package with the model is not installed")
    made: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    made.no_padding()
    return made


KINDS: dict[str, Callable[[], Tokenizer]] = {
    make.__name__: make
    for make in (word_piece, byte_level, roberta, xlm_roberta, albert, word_level, mini_lm)
} | {
    name: split_by(pattern)
    for name, pattern in
    {"llama_3": LLAMA_3, "qwen_3_5": QWEN_3_5, "gpt_oss": GPT_OSS}.items()
}  # fmt: skip


@functools.cache
def made(kind: str) -> Tokenizer:
    return KINDS[kind]()


@pytest.fixture(params=list(KINDS))
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return made(request.param)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let texts of some words be long ones."""
    monkeypatch.setattr(long_texts, "SHORTEST", 0)
    monkeypatch.setattr(long_texts, "CHARACTERS_OF_A_TOKEN", 2)
    monkeypatch.setattr(long_texts, "WINDOW", 60)


@st.composite
def texts(draw: st.DrawFn) -> str:
    chosen = random.Random(draw(st.integers(0, 2**32)))
    words = chosen.choices(WORDS, k=draw(st.integers(1, 80)))
    text = "".join(word + chosen.choice(BETWEEN) for word in words) + draw(st.text(max_size=4))
    return text.encode(errors="ignore").decode()


def encode_both(
    tokenizer: Tokenizer, several: list[str], longest: int
) -> tuple[list[tuple], list[tuple], list[str]]:
    """Ids and whether it was cut, of the beginnings, of whole texts; and what was tokenised."""
    tokenizer.enable_truncation(longest)
    seen: list[str] = []

    def encode(parts: list[str]):
        seen.extend(parts)
        return tokenizer.encode_batch_fast(parts)

    found = encode_beginnings(several, encode, tokenizer, longest, "right")
    whole = tokenizer.encode_batch_fast(several)
    return *([(one.ids, bool(one.overflowing)) for one in rows] for rows in (found, whole)), seen


@settings(max_examples=60, deadline=None)
@given(several=st.lists(texts(), min_size=1, max_size=3), longest=st.integers(3, 30))
def test_a_beginning_has_the_ids_of_the_whole_text(short, several, longest) -> None:
    for kind in KINDS:
        found, whole, _ = encode_both(made(kind), several, longest)
        assert found == whole, kind


def test_whatever_stands_beside_the_place(tokenizer, short) -> None:
    cuts = 0
    for word in WORDS:
        text = f"the film was {word} good {word} {word} film " * 12
        for longest in range(4, 24, 3):
            found, whole, seen = encode_both(tokenizer, [text], longest)
            assert found == whole, word
            cuts += len(seen[-1]) < len(text)
    assert cuts > 5 * len(WORDS)


def test_of_a_long_text_little_is_tokenised(tokenizer) -> None:
    text = "the film was good and the book was not " * 2_000
    found, whole, seen = encode_both(tokenizer, [text, "short", text[1:]], 64)
    assert found == whole
    assert sum(map(len, seen)) < 20_000


@pytest.mark.parametrize("unit", ["\u200b", " ", "x", "好", "a,b;", "\u0301", "a  b  "])
def test_texts_that_cannot_be_cut_are_tokenised_whole(tokenizer, unit) -> None:
    found, whole, seen = encode_both(tokenizer, [unit * 9_000], 16)
    assert found == whole
    assert len(seen[-1]) == len(unit) * 9_000


TWO_WORDS = "booktextgoodlongtown film"


def crooked(**parts: object) -> Tokenizer:
    """A word piece tokenizer, to which the first word alone is many tokens."""
    made = word_piece()
    for name, part in parts.items():
        setattr(made, name, part)
    return made


def with_added_token() -> Tokenizer:
    made = word_piece()
    made.add_tokens([AddedToken(TWO_WORDS, normalized=False)])
    return made


def without_pieces() -> Tokenizer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trained(
        models.BPE(),
        trainers.BpeTrainer(vocab_size=500, show_progress=False, initial_alphabet=alphabet),
        pre_tokenizer=pre_tokenizers.ByteLevel(use_regex=False, add_prefix_space=False),
        texts=[TWO_WORDS + " "] * 3,
    )


CROOKED = {
    "an added token with a space": with_added_token(),
    "a word by what follows": crooked(
        normalizer=normalizers.Replace(Regex("booktextgoodlongtown(?= film)"), "t")
    ),
    "two words that become another": crooked(normalizer=normalizers.Replace(TWO_WORDS, "text")),
    "pieces of two words": crooked(
        pre_tokenizer=pre_tokenizers.Split(Regex(r"\S+ \S+ ?"), "isolated")
    ),
    "a space that stays with what is before it": crooked(
        pre_tokenizer=pre_tokenizers.Split(" ", "merged_with_previous")
    ),
    "no pieces": without_pieces(),
}


@pytest.mark.parametrize("name", CROOKED)
def test_a_tokenizer_that_looks_across_a_space_gets_whole_texts(name, short, monkeypatch) -> None:
    text = f"{TWO_WORDS} " * 40
    for longest in range(3, 12):
        found, whole, seen = encode_both(CROOKED[name], [text], longest)
        assert found == whole
        assert seen == [text]
    monkeypatch.setattr(long_texts, "_splits", lambda tokenizer, around: True)
    monkeypatch.setattr(long_texts, "is_local", lambda tokenizer: True)
    several = [text[start:] for start in range(len(TWO_WORDS))]
    assert any(
        differs(CROOKED[name], several, longest, characters, monkeypatch)
        for longest in range(4, 30)
        for characters in (1, 22)
    ), "it would not matter"


def differs(
    tokenizer: Tokenizer, several: list[str], longest: int, characters: int,
    monkeypatch: pytest.MonkeyPatch,
) -> bool:  # fmt: skip
    monkeypatch.setattr(long_texts, "CHARACTERS_OF_A_TOKEN", characters)
    found, whole, _ = encode_both(tokenizer, several, longest)
    return found != whole


def test_texts_that_keep_their_end_are_tokenised_whole() -> None:
    tokenizer = word_piece()
    tokenizer.enable_truncation(8, direction="left")
    text = "the film was good " * 2_000 + "not"
    (found,) = encode_beginnings([text], tokenizer.encode_batch_fast, tokenizer, 8, "left")
    assert found.ids == tokenizer.encode(text).ids


def test_every_pattern_that_is_known_keeps_what_is_before_a_space() -> None:
    for pattern in LOCAL_PATTERNS:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        whole = [piece for piece, _ in split.pre_tokenize_str("it's  12345 Good\n\n one two")]
        cut = [piece for piece, _ in split.pre_tokenize_str("it's  12345 Good\n\n one")]
        assert "".join(whole) == "it's  12345 Good\n\n one two"
        assert whole[: len(cut) - 1] == cut[:-1]
    assert is_local(split_by(LLAMA_3)())
