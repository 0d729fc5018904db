"""Which encoding a text file is in, decided from its bytes and said when it is not UTF-8."""

import codecs
from pathlib import Path

from textassay.errors import DataError

CHUNK = 1 << 20
SAMPLE = 1 << 18
BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# About a third of the characters of any Chinese text.
EVERYDAY = frozenset(
    "的一是了我不在人有他这个们来到时大地为子中你说生国年着就那和要出也得里后自以会家可下过天去能对小多好很都没"
)
# What charset-normalizer sometimes takes Windows files for, and what nobody hands over today.
NOT_MET = ["mac_cyrillic", "mac_greek", "mac_iceland", "mac_latin2", "mac_roman", "mac_turkish"]
# Files that people hand over under a text file's name.
MAGIC = {
    b"PK\x03\x04": "a zip archive or an Excel workbook; unpack it or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file; save it as CSV",
    b"\x1f\x8b": "gzip-compressed; unpack it first",
    b"PAR1": "a Parquet file; rename it to end in .parquet",
    b"%PDF-": "a PDF",
    b"\x89PNG": "a picture",
    b"\x7fELF": "a program",
    b"SQLite format 3\0": "a database",
}


def find_encoding(path: Path) -> tuple[str, str | None]:
    """The encoding to read `path` with, and a note if it is not plain UTF-8.

    Raises DataError for what is not text.
    """
    with path.open("rb") as stream:
        head = stream.read(SAMPLE)
    for magic, what in MAGIC.items():
        if head.startswith(magic):
            raise DataError(f"{path}: is not text but {what}.")
    for bom, encoding in BOMS.items():
        if head.startswith(bom):
            _refuse_break(path, encoding.removesuffix("-sig"))
            return encoding, None if encoding == "utf-8-sig" else f"read as {encoding.upper()}"
    wide = _wide_without_bom(head)
    if wide:
        _refuse_break(path, wide)
        return wide, f"read as {wide.upper()} (no byte-order mark)"
    broken_at = _first_break(path, "utf-8")
    if broken_at is None:
        _refuse_binary(path, head.decode("utf-8", "ignore"))
        return "utf-8", None
    return _guess_encoding(path, head, broken_at)


def _refuse_break(path: Path, encoding: str) -> None:
    broken_at = _first_break(path, encoding)
    if broken_at is not None:
        raise DataError(
            f"{path}, line {_line_of(path, broken_at)}: begins as {encoding.upper()} but is not "
            f"valid {encoding.upper()} (byte {broken_at}); convert it to UTF-8."
        )


def _wide_without_bom(head: bytes) -> str | None:
    """UTF-16 of mostly Latin text has a NUL in every other byte."""
    half = max(1, len(head) // 2)
    if head[1::2].count(0) > 0.3 * half and head[::2].count(0) == 0:
        return "utf-16-le"
    if head[::2].count(0) > 0.3 * half and head[1::2].count(0) == 0:
        return "utf-16-be"
    return None


def _guess_encoding(path: Path, head: bytes, broken_at: int) -> tuple[str, str]:
    # One stray byte in a UTF-8 file is mended by hand: read in any other encoding, every good
    # character of the file would become a wrong one.
    encoding, note = (None, "") if _is_broken_utf_8(head) else _likely_encoding(head)
    if encoding and _first_break(path, encoding) is None:
        _refuse_binary(path, head.decode(encoding, "ignore"))
        return encoding, note
    raise DataError(
        f"{path}, line {_line_of(path, broken_at)}: is not valid UTF-8 (byte {broken_at}) and no "
        "other encoding fits the whole file; convert it to UTF-8."
    )


def _likely_encoding(head: bytes) -> tuple[str | None, str]:
    from charset_normalizer import from_bytes

    if _reads_as_chinese(head):  # charset-normalizer takes short Chinese texts for Korean
        return "gb18030", "read as GB18030"
    best = from_bytes(_whole_lines(head), cp_exclusion=NOT_MET).best()
    if best is None:
        return None, ""
    name = best.encoding.upper()
    return best.encoding, f"read as {name}, a guess; convert it to UTF-8 if letters are wrong"


def _whole_lines(head: bytes) -> bytes:
    return head if len(head) < SAMPLE else head[: head.rfind(b"\n") + 1] or head


def _is_broken_utf_8(head: bytes) -> bool:
    """Whether most characters beyond ASCII are good UTF-8, which no other encoding looks like."""
    beyond = [c for c in head.decode("utf-8", "replace") if ord(c) > 127]
    return beyond.count("\ufffd") < 0.5 * len(beyond)


def _reads_as_chinese(head: bytes) -> bool:
    """Whether the characters beyond ASCII make Chinese once read as GB18030.

    German and Korean, say, read so give Chinese characters too, but hardly one of those that every
    Chinese sentence is made of.
    """
    text = _whole_lines(head).decode("gb18030", "replace")
    beyond = [c for c in text if ord(c) > 127]
    chinese = [c for c in beyond if "一" <= c <= "鿿"]
    marks = sum(c in "，。！？、；：“”（）《》…—" for c in beyond)
    if not beyond or len(chinese) + marks < 0.9 * len(beyond):
        return False
    different = "".join(set(chinese))
    if len(different) < 10:  # a few labels: no sentence to judge by, but no rare characters either
        return len(different.encode("gb2312", "ignore")) == 2 * len(different)
    return sum(c in EVERYDAY for c in chinese) >= 0.05 * len(chinese)


def _first_break(path: Path, encoding: str) -> int | None:
    """The position of the first byte that `encoding` cannot read, or None."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    position = 0
    with path.open("rb") as stream:
        while True:
            chunk = stream.read(CHUNK)
            # The decoder counts from the bytes of a character that the last chunk cut in two.
            start = position - len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, not chunk)
            except UnicodeDecodeError as error:
                return start + error.start
            if not chunk:
                return None
            position += len(chunk)


def _line_of(path: Path, position: int) -> int:
    with path.open("rb") as stream:
        return stream.read(position).count(b"\n") + 1


def _refuse_binary(path: Path, text: str) -> None:
    control = sum(c < " " and c not in "\t\n\r\f" for c in text)
    if control > 0.05 * max(1, len(text)):
        raise DataError(
            f"{path}: is not a text file ({control:,} control characters in its beginning); "
            "name a CSV, TSV, JSON, JSON Lines or Parquet file."
        )
