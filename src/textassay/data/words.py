"""Words and letters of every script; Python's own `\\w` cuts Hindi and Thai at vowel signs."""

import re
import unicodedata

import regex

# What combines with a letter belongs to it: vowel signs, tones, accents that do not compose.
# Variation selectors do not, they choose between two pictures of one character.
_MARKS = r"[\p{M}--\p{Variation_Selector}]"
_LETTERS = regex.compile(rf"(?:[\p{{L}}\p{{N}}]+{_MARKS}*)+", regex.VERSION1)
_NO_ASCII_LETTER = re.compile(r"[\W_]+", re.ASCII)
# scikit-learn's words of two characters or more; joiners stand inside Persian and Indian words.
_WORD = regex.compile(
    rf"[\p{{L}}\p{{N}}_](?:[\p{{L}}\p{{N}}_\u200c\u200d]|{_MARKS})+", regex.VERSION1
)

# Scripts that write no spaces between words: Japanese and Chinese, Thai and Lao, Burmese, Khmer.
UNSPACED = re.compile(
    r"[\u3040-\u9fff\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"
)


def normalized(text: str) -> str:
    """The text by which rows count as the same: NFKC, lower case, letters and digits only.

    Marks stay with their letters. A text without letters or digits (an emoji, say) stands for
    itself.
    """
    folded = unicodedata.normalize("NFKC", text).lower()
    if folded.isascii():  # twice as fast
        return _NO_ASCII_LETTER.sub("", folded) or folded
    folded = folded.replace("i\u0307", "i")  # Python's lower case of the Turkish İ
    return "".join(_LETTERS.findall(folded)) or folded


def words(text: str) -> list[str]:
    """The words of a text, of two characters or more."""
    found: list[str] = _WORD.findall(text)
    return found
