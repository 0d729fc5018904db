"""What `torch.save` has written: plain values, and where the numbers of tensors lie.

Torch's own unpickler is not asked: nothing that a file names is run, no number is read, and every
size is compared with the bytes that are there before anything of that size is made. Two formats are
known: the zip archive, and what torch wrote before version 1.6.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch

from textassay.console import counted
from textassay.errors import first_line
from textassay.models.plain_unpickler import PLACE, OddSizesError, PlainUnpickler

# What the older format writes before each storage.
BYTES_OF_COUNT = 8
NOWHERE = -(2**63)
ZIP = b"PK\x03\x04"
MAGIC = 0x1950A86A20F9469CFC6C
# What reading a file with broken bytes raises.
BROKEN = (
    UnpicklingError, zipfile.BadZipFile, EOFError, OSError, ValueError, LookupError, TypeError,
    AttributeError, RuntimeError, NotImplementedError, OverflowError,
)  # fmt: skip


def read_pickled(file: Path, classes: Mapping[str, Any] | None = None) -> Any:
    """What a file says; its tensors are of the device `meta`, and `place_of` knows where they lie.

    `classes` are stand-ins for classes by their full name. OddSizesError where sizes and bytes
    disagree, UnpicklingError for what is more than tensors and plain values; one of BROKEN for a
    file that was cut off.
    """
    with file.open("rb") as stream:
        if zipfile.is_zipfile(stream):
            return _read_zip(stream, file.stat().st_size, classes or {})
        stream.seek(0)
        if stream.read(len(ZIP)) == ZIP:
            raise zipfile.BadZipFile("the end of the archive is missing")
        stream.seek(0)
        return _read_old(stream, file.stat().st_size, classes or {})


def read_state(file: Path) -> dict[str, torch.Tensor]:
    """The tensors by name, without numbers, of a file of weights; see `read_pickled`."""
    content = read_pickled(file)
    if not isinstance(content, dict):
        raise UnpicklingError(f"a {type(content).__name__} where tensors by name are expected")
    return {str(name): _tensor_of(name, value) for name, value in content.items()}


def _tensor_of(name: Any, value: Any) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise UnpicklingError(f"{str(name)[:60]} is a {type(value).__name__}")
    return value


def place_of(tensor: torch.Tensor) -> int:
    """The byte of the file at which the first number of a tensor lies.

    It is below 0 for a file of the older format, of which that is not found out.
    """
    place: int = getattr(tensor, PLACE)
    return place


def why_unread(error: BaseException) -> str:
    """What goes on after a file's name, of an error that reading it has raised."""
    if isinstance(error, OddSizesError):
        return f"says more than it holds ({error}), so it is not read"
    if isinstance(error, UnpicklingError):
        named = first_line(error)[:160]
        return f"holds more than tensors and plain values ({named}), so it is not read"
    said = "" if isinstance(error, LookupError) else first_line(error)[:160]
    return f"cannot be read; it may be cut off ({said or type(error).__name__})"


def _read_zip(stream: BinaryIO, size: int, classes: Mapping[str, Any]) -> Any:
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        _refuse_odd_members(members, archive.comment, size)
        pickles = [member for member in members if member.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise zipfile.BadZipFile("there is no data.pkl in it")
        above = pickles[0].filename.removesuffix("data.pkl")
        content = archive.read(pickles[0])
    named = {member.filename: member for member in members}

    def find(key: str) -> tuple[int, int]:
        member = named[f"{above}data/{key}"]
        return _begin_of(stream, member), member.file_size

    return PlainUnpickler(io.BytesIO(content), find, size, classes).load()


def _refuse_odd_members(members: Sequence[zipfile.ZipInfo], comment: bytes, size: int) -> None:
    """OddSizesError for an archive that torch would not write."""
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise OddSizesError(
                f"{member.filename[:60]} in it is compressed, which torch.save never does, so how "
                "much it becomes is not known"
            )
    if len({member.filename for member in members}) != len(members):
        raise OddSizesError("two of its members have one name")
    held = sum(member.file_size for member in members)
    if held > size or comment:
        raise OddSizesError(f"its members have {counted(held, 'byte')} and the file {size:,}")


def _begin_of(stream: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin, behind a header whose length it says itself."""
    stream.seek(member.header_offset)
    header = stream.read(30)
    if len(header) < 30 or not header.startswith(ZIP):
        raise zipfile.BadZipFile(f"the header of {member.filename[:60]} is not where it should be")
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return member.header_offset + 30 + lengths


def _read_old(stream: BinaryIO, size: int, classes: Mapping[str, Any]) -> Any:
    """What torch wrote before 1.6: five pickles, and behind them each storage with its count."""
    told: dict[str, int] = {}

    def find(key: str) -> tuple[int, int]:
        # Where it lies nobody needs to know; that all of them fit is compared below.
        return NOWHERE, size

    def load() -> Any:
        return PlainUnpickler(stream, find, size, classes, told).load()

    if load() != MAGIC:
        raise UnpicklingError("it was not written by torch.save")
    load()
    load()
    content = load()
    load()
    wanted = sum(told.values()) + BYTES_OF_COUNT * len(told)
    if wanted > size - stream.tell():
        left = size - stream.tell()
        raise OddSizesError(f"its tensors want {counted(wanted, 'byte')}, and {left:,} are left")
    return content
