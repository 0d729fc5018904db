"""Which single-byte code page a text is in, and which others would read other letters.

No file says it. Nearly all such files are Windows-1252, so another page needs strong evidence.
"""

import codecs
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise

WESTERN = "cp1252"
# Latin pages differ in a few letters; pages of other scripts cannot be taken for one another.
LATIN = ("cp1252", "cp1250", "cp1254", "cp1257", "iso8859-2")
OTHER_SCRIPTS = ("cp1251", "cp1253", "cp1255", "cp1256")
# Pages of one script, whose letters stand in other places: statistics of the language tell hardly
# any of them apart, since most have the small letters, or all of them, where another has some.
CYRILLIC = ("cp1251", "koi8_r", "koi8_u", "mac_cyrillic", "iso8859_5", "cp866")
RELATIVES = (CYRILLIC, ("cp1253", "iso8859_7"), ("cp1255", "iso8859_8"), ("cp1256", "iso8859_6"))
TWO_BYTES = ("gb18030", "big5", "cp949", "cp932", "euc_jp")
# With fewer different words, or characters of two bytes, every page that reads them is a doubt: of
# 20 choices of 3 words up to 15 were read wrongly, of 8 none.
FEW_WORDS, FEW_CHARACTERS = 8, 10
# What people hand over today: no DOS and no Macintosh pages, which short texts are mistaken for.
CANDIDATES = [
    *("windows-1250", "windows-1251", "windows-1252", "windows-1253", "windows-1254"),
    *("windows-1255", "windows-1256", "windows-1257", "windows-1258", "koi8-r", "koi8-u"),
    *("iso-8859-2", "tis-620", "gb18030", "big5", "cp949", "cp932", "euc-jp"),
]
# How much better than Windows-1252 another encoding has to fit, and how well at all. Over 34
# languages, 3 to 400 rows: 1.4 and more where it is another, 1.05 and less where it is not.
STRONG = 1.25
WEAKEST = 0.1
WORD = re.compile(rb"[0-9A-Za-z\x80-\xff]+")
WORDS = 20_000
# A page is no alternative if more of the words than this would be written as no word is.
STRANGE = 0.1


def likely_encodings(evidence: bytes) -> list[str]:
    """Return Python's names of the likely encodings of lines beyond ASCII, best first."""
    import chardet

    detected = chardet.detect_all(evidence, ignore_threshold=True, include_encodings=CANDIDATES)
    fits = {_python_name(entry["encoding"]): entry["confidence"]
            for entry in detected if entry["encoding"]}  # fmt: skip
    western = fits.pop(WESTERN, 0.0)
    words = _words(evidence)
    others = [name for name, fit in fits.items() if fit >= WEAKEST and fit >= STRONG * western
              and (name not in (*LATIN, *OTHER_SCRIPTS) or _makes_words(words, name))]  # fmt: skip
    # Where the letters are the same, the page of Windows has more of the punctuation.
    others.sort(key=lambda name: (-round(fits[name], 2), not name.startswith("cp")))
    return [*others, WESTERN]


def _python_name(name: str) -> str:
    return codecs.lookup(name).name


def other_reading(evidence: bytes, page: str) -> tuple[str, str, str] | None:
    """Return another code page, a word as `page` has it, and the word as the other one has it.

    None where no page in which the words could be words has other letters. Where there are few of
    them, or `page` itself makes no words of them, that is any page that can read them.
    """
    page = _python_name(page)
    if page in map(_python_name, TWO_BYTES):
        return _other_of_two_bytes(evidence, page)
    words = _words(evidence)
    related = next((pages for pages in RELATIVES if page in map(_python_name, pages)), ())
    others = [other for other in related or (*LATIN, *OTHER_SCRIPTS) if _makes_words(words, other)]
    if not _makes_words(words, page) or (page not in LATIN and len(words) < FEW_WORDS):
        known = (*others, *CYRILLIC, *OTHER_SCRIPTS, *LATIN)
        others = sorted(known, key=lambda other: not _makes_words(words, other))
    return _first_difference(words, page, others)


def _first_difference(
    words: Sequence[bytes], page: str, others: Iterable[str]
) -> tuple[str, str, str] | None:
    """Return the first other page that can read all words and gives one of them other letters."""
    for other in others:
        try:
            pairs = [(word.decode(page), word.decode(other)) for word in words]
        except UnicodeDecodeError:
            continue
        if pair := next((pair for pair in pairs if _letters_differ(*pair)), None):
            return _python_name(other), *pair
    return None


def _other_of_two_bytes(evidence: bytes, page: str) -> tuple[str, str, str] | None:
    """Return as `other_reading`, for pages of two bytes a character: many of them settle it."""
    characters = {c for c in evidence.decode(page, "ignore") if ord(c) > 127}
    if len(characters) >= FEW_CHARACTERS:
        return None
    return _first_difference(evidence.splitlines(), page, (*TWO_BYTES, *OTHER_SCRIPTS))


def first_word(evidence: bytes, encoding: str) -> str:
    """Return the first word that is not ASCII, as `encoding` has it."""
    text = evidence.decode(encoding, "replace")
    return next((word for word in re.findall(r"\w+|[^\s\w]", text) if not word.isascii()), "")


def _words(evidence: bytes) -> list[bytes]:
    """Return the different words beyond ASCII, up to WORDS of them."""
    words = dict.fromkeys(word for word in WORD.findall(evidence) if not word.isascii())
    return list(words)[:WORDS]


def _makes_words(words: list[bytes], page: str) -> bool:
    """Return True if `page` can read all words, and makes of most what could be a word."""
    try:
        strange = sum(not _is_plausible(word.decode(page)) for word in words)
    except UnicodeDecodeError:
        return False
    return strange <= STRANGE * len(words)


def _letters_differ(here: str, there: str) -> bool:
    if len(here) != len(there):
        return True
    return any(a != b and (a.isalpha() or b.isalpha()) for a, b in zip(here, there, strict=True))


def _is_plausible(word: str) -> bool:
    """Return False for what is no word.

    Mixed scripts, a capital inside, a control or a line of a frame, a digit beside such a letter.
    """
    if any("\x80" <= c <= "\x9f" or "\u2500" <= c <= "\u259f" for c in word):
        return False
    if any(a.islower() and b.isupper() for a, b in pairwise(word)):
        return False
    if any(a.isdigit() != b.isdigit() and not (a + b).isascii() and (a + b).isalnum()
           for a, b in pairwise(word)):  # fmt: skip
        return False
    letters = (c for c in word if unicodedata.category(c)[0] in "LM")
    return len({unicodedata.name(c, "?").split()[0] for c in letters}) <= 1
