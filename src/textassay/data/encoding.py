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
# Files that people hand over under a text file's name.
MAGIC = {
    b"PK\x03\x04": "a zip archive or an Excel workbook; unpack it or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file; save it as CSV",
    b"\x1f\x8b": "gzip-compressed; unpack it first",
    b"PAR1": "a Parquet file; rename it to end in .parquet",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\x7fELF": "a program",
    b"SQLite": "a database",
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
            return encoding, None if encoding == "utf-8-sig" else f"read as {encoding.upper()}"
    wide = _wide_without_bom(head)
    if wide:
        return wide, f"read as {wide.upper()} (no byte-order mark)"
    broken_at = _first_break(path, "utf-8")
    if broken_at is None:
        _refuse_binary(path, head.decode("utf-8", "ignore"))
        return "utf-8", None
    return _guess_encoding(path, head, broken_at)


def _wide_without_bom(head: bytes) -> str | None:
    """UTF-16 of mostly Latin text has a NUL in every other byte."""
    half = max(1, len(head) // 2)
    if head[1::2].count(0) > 0.3 * half and head[::2].count(0) == 0:
        return "utf-16-le"
    if head[::2].count(0) > 0.3 * half and head[1::2].count(0) == 0:
        return "utf-16-be"
    return None


def _guess_encoding(path: Path, head: bytes, broken_at: int) -> tuple[str, str]:
    from charset_normalizer import from_bytes

    # GB18030 first: it is what Chinese files that are not UTF-8 are in, and it is strict enough
    # that Western text seldom passes for it with sensible characters.
    guesses = []
    best = from_bytes(_whole_lines(head)).best()
    if _reads_as_chinese(head):
        guesses.append("gb18030")
    if best is not None:
        guesses.append(best.encoding)
    for encoding in guesses:
        if _first_break(path, encoding) is None:
            _refuse_binary(path, head.decode(encoding, "ignore"))
            return encoding, f"read as {encoding.upper()}"
    raise DataError(
        f"{path}, line {_line_of(path, broken_at)}: is not valid UTF-8 (byte {broken_at}) and no "
        "other encoding fits the whole file; convert it to UTF-8."
    )


def _whole_lines(head: bytes) -> bytes:
    return head[: head.rfind(b"\n") + 1] or head


def _reads_as_chinese(head: bytes) -> bool:
    """Whether most characters beyond ASCII are common Chinese ones once read as GB18030."""
    text = _whole_lines(head).decode("gb18030", "replace")
    beyond = [c for c in text if ord(c) > 127]
    common = sum("一" <= c <= "鿿" or c in "，。！？、；：“”（）《》…—" for c in beyond)
    return bool(beyond) and common >= 0.9 * len(beyond)


def _first_break(path: Path, encoding: str) -> int | None:
    """The position of the first byte that `encoding` cannot read, or None."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    position = 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                return max(0, position + error.start)
            position += len(chunk)
    try:
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return position
    return None


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
