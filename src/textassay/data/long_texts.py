"""Long texts: only their beginning is tokenised, as far as tokens of it are kept.

A text may be cut before a single space between two letters or digits if the tokenizer splits there,
and if nothing in it looks across such a place. Then the tokens of the beginning are the first
tokens of the whole text. A tokenizer with any other part gets whole texts.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import Encoding, Tokenizer

# So many characters for each token that is kept are looked at first, then four times as many.
CHARACTERS_OF_A_TOKEN = 8
GROWTH = 4
# Shorter texts are not worth a look.
SHORTEST = 4000
PLACE = re.compile(r"(?<=[^\W_]) (?=[^\W_])")
# Where the last place is looked for, and how often the tokenizer is asked about one.
WINDOW, TRIES = 1000, 8
SPACES = r"\s▁Ġ"
SPACE = re.compile(rf"(?<=[^{SPACES}])[{SPACES}](?=[^{SPACES}])")
CROSSES = re.compile(rf"[^{SPACES}][{SPACES}]")

# Parts that change a character without regard to what stands on the other side of such a place.
LOCAL_NORMALIZERS = {
    "BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Prepend",
    "Strip", "StripAccents",
}  # fmt: skip
LOCAL_PRE_TOKENIZERS = {
    "BertPreTokenizer", "ByteLevel", "Digits", "Metaspace", "Punctuation", "Whitespace",
    "WhitespaceSplit",
}  # fmt: skip
# Each piece is turned into tokens alone.
LOCAL_MODELS = {"BPE", "Unigram", "WordLevel", "WordPiece"}
# Patterns that match no letter together with a space behind it: runs of white space, and what
# Llama 3, Qwen 2, Qwen 3.5 and gpt-oss split by.
LOCAL_PATTERNS = {
    r"\s+", r" {2,}", r"\s{2,}|[\n\r\t]", r"[\n\r\t]", r"\n",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}  # fmt: skip

Encode = Callable[[list[str]], Sequence[Encoding]]


def encode_beginnings(
    texts: Sequence[str], encode: Encode, tokenizer: Tokenizer, max_length: int, side: str
) -> list[Encoding]:
    """What `encode`, which cuts texts to `max_length` tokens at this side, gives for each text.

    Of long texts it is given the beginning only, where that gives the same token ids. What was cut
    off (`overflowing`) is less then, but never nothing where the whole text has more tokens.
    """
    longest = max(map(len, texts), default=0)
    length = max(CHARACTERS_OF_A_TOKEN * max_length, SHORTEST)
    if longest <= length or side != "right" or not is_local(tokenizer):
        return list(encode(list(texts)))
    found: dict[int, Encoding] = {}
    rows: Sequence[int] = range(len(texts))
    while rows:
        parts = [_beginning(texts[row], length, tokenizer) for row in rows]
        for row, part, encoding in zip(rows, parts, encode(parts), strict=True):
            if encoding.overflowing or len(part) == len(texts[row]):
                found[row] = encoding
        rows = [row for row in rows if row not in found]
        length *= GROWTH
    return [found[row] for row in range(len(texts))]


def is_local(tokenizer: Tokenizer) -> bool:
    """Whether no part of a tokenizer is known to look across a space between two letters.

    Whether it splits there at all is asked for each place, see `_splits`.
    """
    added = tokenizer.get_added_tokens_decoder().values()
    return (
        type(tokenizer.model).__name__ in LOCAL_MODELS
        and not getattr(tokenizer.model, "dropout", None)
        and all(map(_is_local_normalizer, _parts(tokenizer.normalizer, "normalizers")))
        and all(map(_is_local_pre_tokenizer, _parts(tokenizer.pre_tokenizer, "pretokenizers")))
        and not any(CROSSES.search(token.content) for token in added)
    )


def _beginning(text: str, length: int, tokenizer: Tokenizer) -> str:
    """The first characters, `length` or more; the whole text where it cannot be cut."""
    while len(text) > 2 * length:
        start = length - WINDOW
        places = [start + found.start() for found in PLACE.finditer(text[start:length])]
        for place in places[: -TRIES - 1 : -1]:
            if _splits(tokenizer, text[place - 1 : place + 2]):
                return text[:place]
        length *= GROWTH
    return text


def _splits(tokenizer: Tokenizer, around: str) -> bool:
    """Whether a piece ends before the space in a letter, a space and a letter."""
    if tokenizer.normalizer is not None:
        around = tokenizer.normalizer.normalize_str(around)
    space = SPACE.search(around)
    if space is None or tokenizer.pre_tokenizer is None:
        return False
    pieces = tokenizer.pre_tokenizer.pre_tokenize_str(around)
    return not any(start < space.start() < end for _, (start, end) in pieces)


def _parts(part: Any, children: str) -> list[dict[str, Any]]:
    """A normalizer or pre-tokenizer as it stands in tokenizer.json, sequences taken apart."""
    if part is None:
        return []
    return _taken_apart(json.loads(part.__getstate__()), children)


def _taken_apart(part: dict[str, Any], children: str) -> list[dict[str, Any]]:
    if part["type"] != "Sequence":
        return [part]
    return [found for child in part[children] for found in _taken_apart(child, children)]


def _is_local_normalizer(part: dict[str, Any]) -> bool:
    return part["type"] in LOCAL_NORMALIZERS or (
        part["type"] == "Replace" and _is_local_pattern(part["pattern"])
    )


def _is_local_pre_tokenizer(part: dict[str, Any]) -> bool:
    return part["type"] in LOCAL_PRE_TOKENIZERS or (
        part["type"] == "Split" and _is_local_pattern(part["pattern"])
    )


def _is_local_pattern(pattern: dict[str, str]) -> bool:
    if "Regex" in pattern:
        return pattern["Regex"] in LOCAL_PATTERNS
    return not any(character.isalnum() for character in pattern["String"])
