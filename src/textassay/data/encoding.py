"""Which encoding a text file is in, decided from its bytes and said when it is not UTF-8."""

import codecs
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from textassay.data.code_pages import first_word, likely_encodings, other_reading
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
PARQUET = b"PAR1"
# Files that people hand over under a text file's name.
MAGIC = {
    b"PK\x03\x04": "a zip archive or an Excel workbook; unpack it or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file; save it as CSV",
    b"\x1f\x8b": "gzip-compressed; unpack it (gzip -dk FILE)",
    b"BZh91AY&SY": "bzip2-compressed; unpack it (bzip2 -dk FILE)",
    b"\xfd7zXZ": "xz-compressed; unpack it (xz -dk FILE)",
    b"\x28\xb5\x2f\xfd": "zstd-compressed; unpack it (zstd -d FILE)",
    PARQUET: "a Parquet file; rename it to end in .parquet",
    b"%PDF-": "a PDF",
    b"\x89PNG": "a picture",
    b"\x7fELF": "a program",
    b"SQLite format 3\0": "a database",
}


class Encoding(NamedTuple):
    """Python's name of an encoding, what to tell the user of it, and what makes it doubtful.

    `doubt` says which letters another code page would read: enough to warn of, too much for a copy
    that replaces the file.
    """

    name: str
    note: str | None = None
    doubt: str | None = None


def find_encoding(path: Path, named: str | None = None) -> Encoding:
    """Return the encoding to read `path` with: `named`, else what its bytes show.

    Raises DataError for what is not text, or not in that encoding.
    """
    return find_encodings([path], named)[path]


def find_encodings(paths: Sequence[Path], named: str | None = None) -> dict[Path, Encoding]:
    """Return {path: encoding} for the files of one data set.

    Those that are no Unicode are all in one encoding, decided from all of them: a few rows of one
    file would be read otherwise than many of another.
    """
    encodings = {path: _named(path, named) if named else _unicode(path) for path in paths}
    legacy = [path for path, encoding in encodings.items() if encoding is None]
    if legacy:
        evidence = b"\n".join(_evidence(path) for path in legacy)
        found = _guess(legacy, evidence)
        encodings |= dict.fromkeys(legacy, found)
    return {path: encoding for path, encoding in encodings.items() if encoding}


def refuse_packed(path: Path, head: bytes) -> None:
    """DataError for files that hold something else than their name says."""
    for magic, what in MAGIC.items():
        if head.startswith(magic):
            raise DataError(f"{path}: is not text but {what}.")


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        head = stream.read(SAMPLE)
    refuse_packed(path, head)
    return head


def _named(path: Path, name: str) -> Encoding:
    """The encoding that the user names, with the byte-order mark that the file may have."""
    head = _head(path)
    for bom, encoding in BOMS.items():
        if head.startswith(bom) and encoding.startswith(name[:6]):
            name = encoding
            break
    broken_at = _first_break(path, name)
    if broken_at is not None:
        raise DataError(
            f"{path}, line {_line_of(path, broken_at)}: is not valid {shown(name)} (byte "
            f"{broken_at}), which --encoding names; name another, or leave it out."
        )
    evidence = _evidence(path)
    if evidence and not name.startswith("utf") and _first_break(path, "utf-8") is None:
        note = f"is UTF-8 by its bytes and read as {shown(name)}, which --encoding names"
        return Encoding(name, f"{note} ({first_word(evidence, name)[:20]!r})")
    return Encoding(name)


def _unicode(path: Path) -> Encoding | None:
    """The encoding of a file in UTF-8, UTF-16 or UTF-32; None for any other."""
    head = _head(path)
    for bom, encoding in BOMS.items():
        if head.startswith(bom):
            _refuse_break(path, encoding.removesuffix("-sig"))
            note = None if encoding == "utf-8-sig" else f"read as {encoding.upper()}"
            return Encoding(encoding, note)
    wide = _wide_without_bom(head)
    if wide:
        _refuse_break(path, wide)
        return Encoding(wide, f"read as {wide.upper()} (no byte-order mark)")
    broken_at = _first_break(path, "utf-8")
    if broken_at is None:
        _refuse_binary(path, head.decode("utf-8", "ignore"))
        return Encoding("utf-8")
    # One stray byte in a UTF-8 file is mended by hand: read in any other encoding, every good
    # character of the file would become a wrong one.
    if _is_broken_utf_8(_evidence(path)):
        raise _no_encoding(path, broken_at)
    return None


def _evidence(path: Path) -> bytes:
    """The first lines that are not ASCII, up to SAMPLE bytes of them."""
    lines, size = [], 0
    with path.open("rb") as stream:
        while size < SAMPLE and (chunk := stream.readlines(CHUNK)):
            found = [_around(line) for line in chunk if not line.isascii()]
            lines += found
            size += sum(map(len, found))
    return b"".join(lines)[:SAMPLE]


def _around(line: bytes) -> bytes:
    """A line, or of one that is too long the piece from shortly before its first byte of 128 on."""
    if len(line) <= SAMPLE:
        return line
    first = next(at for at, byte in enumerate(line) if byte > 127)
    return line[max(0, first - 100) :][:SAMPLE]


def shown(name: str) -> str:
    """What people call an encoding: Windows-1252 for cp1252."""
    page = re.fullmatch(r"cp(125\d)", name)
    return f"Windows-{page[1]}" if page else name.upper()


def _guess(paths: list[Path], evidence: bytes) -> Encoding:
    """The one encoding of files that are no Unicode."""
    names = ["gb18030"] if _reads_as_chinese(evidence) else likely_encodings(evidence)
    fitting = [name for name in names if all(_first_break(path, name) is None for path in paths)]
    if not fitting:
        path = next(path for path in paths if _first_break(path, names[-1]) is not None)
        raise _no_encoding(path, _first_break(path, "utf-8") or 0)
    name = fitting[0]
    for path in paths:
        _refuse_binary(path, _head(path).decode(name, "ignore"))
    other = other_reading(evidence, name)
    if name == "gb18030" and not other:
        return Encoding(name, "read as GB18030")
    doubt = None
    if other:
        page, here, there = other
        doubt = f"{here[:20]!r} would be {there[:20]!r} in {shown(page)}"
    reading = doubt or f"{first_word(evidence, name)[:20]!r}, say"
    note = (f"is not UTF-8 and read as {shown(name)}, a guess ({reading}); if letters are wrong, "
            "name the encoding with --encoding")  # fmt: skip
    return Encoding(name, note, doubt)


def _no_encoding(path: Path, broken_at: int) -> DataError:
    return DataError(
        f"{path}, line {_line_of(path, broken_at)}: is not valid UTF-8 (byte {broken_at}) and no "
        "other encoding fits the whole file; mend the line, or name the encoding with --encoding."
    )


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


def _is_broken_utf_8(evidence: bytes) -> bool:
    """Whether most characters beyond ASCII are good UTF-8, which no other encoding looks like."""
    beyond = [c for c in evidence.decode("utf-8", "replace") if ord(c) > 127]
    return beyond.count("\ufffd") < 0.5 * len(beyond)


def _reads_as_chinese(evidence: bytes) -> bool:
    """Whether the characters beyond ASCII make Chinese once read as GB18030.

    German and Korean, say, read so give Chinese characters too, but hardly one of those that every
    Chinese sentence is made of.
    """
    text = evidence.decode("gb18030", "replace")
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
