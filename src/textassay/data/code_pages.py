"""Which single-byte code page a text is in, and which others would read other letters.

No file says it. Nearly all such files are Windows-1252, so another page needs strong evidence.
"""

import re
import unicodedata
from itertools import pairwise

WESTERN = "cp1252"
# Latin pages differ in a few letters; pages of other scripts cannot be taken for one another.
LATIN = ("cp1252", "cp1250", "cp1254", "cp1257", "iso8859-2")
OTHER_SCRIPTS = ("cp1251", "cp1253", "cp1255", "cp1256")
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
    import codecs

    return codecs.lookup(name).name


def other_reading(evidence: bytes, page: str) -> tuple[str, str, str] | None:
    """Return another code page, a word as `page` has it, and the word as the other one has it.

    Only for a Latin page, and only another page in which the words could be words; None where every
    such page has the same letters.
    """
    if page not in LATIN:
        return None
    words = _words(evidence)
    for other in (*LATIN, *OTHER_SCRIPTS):
        if other != page and _makes_words(words, other):
            pairs = ((word.decode(page), word.decode(other)) for word in words)
            if pair := next((pair for pair in pairs if _letters_differ(*pair)), None):
                return other, *pair
    return None


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
    return any(a != b and (a.isalpha() or b.isalpha()) for a, b in zip(here, there, strict=True))


def _is_plausible(word: str) -> bool:
    """Return False for mixed scripts, a capital inside, a control, a digit beside such a letter."""
    if any("\x80" <= c <= "\x9f" for c in word):
        return False
    if any(a.islower() and b.isupper() for a, b in pairwise(word)):
        return False
    if any(a.isdigit() != b.isdigit() and not (a + b).isascii() and (a + b).isalnum()
           for a, b in pairwise(word)):  # fmt: skip
        return False
    letters = (c for c in word if unicodedata.category(c)[0] in "LM")
    return len({unicodedata.name(c, "?").split()[0] for c in letters}) <= 1
