"""Files of torch.save read without torch's unpickler: the same values, and nothing that lies."""

import io
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytest
import torch
from tests.tiny_files_for_tests import Call

from textassay.models.pickled import BROKEN, place_of, read_pickled, read_state, why_unread
from textassay.models.plain_unpickler import OddSizesError


def every_kind() -> "OrderedDict[str, torch.Tensor]":
    """Tensors of each type and layout that weights come in, some of which share their numbers."""
    shared = torch.randn(3, 4)
    state = OrderedDict(
        weight=shared, tied=shared, transposed=shared.t(), part=torch.arange(20)[5:9],
        parameter=torch.nn.Parameter(torch.ones(2)), scalar=torch.tensor(3),
        empty=torch.zeros(0, 3), row=torch.arange(5).expand(1, -1), flag=torch.tensor([True]),
        **{str(dtype): torch.ones(4).to(dtype) for dtype in (
            torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int32,
            torch.float8_e4m3fn)},
    )  # fmt: skip
    state["with attributes"] = torch.randn(6)
    state["with attributes"].ds_id = 3  # type: ignore[attr-defined]
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return state


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before 1.6"])
def test_weights_of_both_formats_are_read(new: bool, tmp_path: Path) -> None:
    state = every_kind()
    file = tmp_path / "weights.bin"
    torch.save(state, file, _use_new_zipfile_serialization=new)
    found = read_state(file)
    assert {name: (t.shape, t.stride(), t.dtype) for name, t in found.items()} == {
        name: (t.shape, t.stride(), t.dtype) for name, t in state.items()
    }


def test_the_place_of_numbers_is_where_they_lie(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    state = {name: t for name, t in every_kind().items() if t.is_contiguous() and t.numel()}
    torch.save(state, file)
    content = file.read_bytes()
    for name, found in read_state(file).items():
        numbers = state[name].detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        assert content[place_of(found) :].startswith(numbers), name


def test_plain_values_are_what_was_saved(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, None, True, "é"], "b": {"c": (1, (2,))}, "d": b"\x00\xff", "e": {1, 2},
               "f": 2**70, "g": torch.Size([2, 3])}  # fmt: skip
    torch.save(content, tmp_path / "plain.pt")
    assert read_pickled(tmp_path / "plain.pt") == content


def archive(file: Path, content: bytes, **members: bytes) -> Path:
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("x/data.pkl", content)
        for name, numbers in members.items():
            made.writestr(f"x/data/{name}", numbers)
    return file


class Pickler(pickle.Pickler):
    """Writes a storage as torch does."""

    def persistent_id(self, obj: Any) -> Any:
        return obj[1:] if isinstance(obj, tuple) and obj[:1] == ("persistent",) else None


def pickled(content: Any) -> bytes:
    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump(content)
    return stream.getvalue()


def tensor(numel: int = 4, offset: int = 0, size: Any = (4,), stride: Any = (1,)) -> Any:
    storage = ("persistent", "storage", torch.FloatStorage, "0", "cpu", numel)
    rebuild = torch._utils._rebuild_tensor_v2
    return Call(rebuild, storage, offset, size, stride, False, OrderedDict())


ODD = {
    "storage": tensor(numel=10**9),
    "offset": tensor(offset=10**9),
    "size": tensor(size=(10**9,)),
    "stride": tensor(stride=(10**9,)),
    "stride of 0": tensor(size=(10**9,), stride=(0,)),
    "negative side": tensor(size=(-1, -4), stride=(1, 1)),
    "64 bits": tensor(size=(2**40, 2**40), stride=(0, 0)),
    "side that is text": tensor(size=("4",)),
    "one storage, many tensors": [tensor() for _ in range(3000)],
}


@pytest.mark.parametrize("name", ODD)
def test_sizes_that_the_bytes_cannot_hold_are_refused(name: str, tmp_path: Path) -> None:
    content = pickled({"a": ODD[name]})
    if name == "one storage, many tensors":
        # Each counts 4,000 numbers; memoised calls cost a few bytes.
        content = pickled({"a": [tensor(4000, size=(4000,)) for _ in range(300)]})
    file = archive(tmp_path / "a.bin", content, **{"0": bytes(16_000 if "many" in name else 16)})
    with pytest.raises(OddSizesError) as refused:
        read_pickled(file)
    assert "says more than it holds" in why_unread(refused.value)
    assert len(str(refused.value)) < 200


def test_the_good_one_of_these_is_read(tmp_path: Path) -> None:
    file = archive(tmp_path / "a.bin", pickled({"a": tensor()}), **{"0": bytes(16)})
    assert read_state(file)["a"].shape == (4,)


def made_by(function: Any) -> Any:
    """A tensor with attributes, whose numbers would be made by this function."""
    from_type = torch._tensor._rebuild_from_type_v2
    return Call(from_type, function, torch.Tensor, (10**9,), {"ds_id": 1})


CALLS = {
    "made by torch.Size": made_by(torch.Size),
    "made by a tensor": made_by(torch.Tensor),
    "bytearray": Call(bytearray, 10**9),
    "eval": Call(eval, "1"),
    "hex": Call(__import__("_codecs").encode, b"ab", "hex_codec"),
    "dictionary of pairs": Call(OrderedDict, [(1, 2)]),
    "nested key": {((1, 2), 3): 4},
    "nested in a set": {frozenset([1])},
}


@pytest.mark.parametrize("name", CALLS)
def test_nothing_else_is_called(name: str, tmp_path: Path) -> None:
    file = archive(tmp_path / "a.bin", pickled({"a": CALLS[name]}))
    with pytest.raises(UnpicklingError) as refused:
        read_pickled(file)
    assert "holds more than tensors and plain values" in why_unread(refused.value)


def test_a_number_in_the_memo_makes_no_room(tmp_path: Path) -> None:
    """The unpickler in C would make 32 GB of it."""
    file = archive(tmp_path / "a.bin", b"\x80\x02}r\xf0\xff\xff\xff.")
    assert read_pickled(file) == {}


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    file = archive(tmp_path / "a.bin", pickled({"a": 1}))
    with zipfile.ZipFile(file, "a") as made, pytest.warns(UserWarning, match="Duplicate"):
        made.writestr("x/data.pkl", pickled({"a": 2}))
    with pytest.raises(OddSizesError, match="one name"):
        read_pickled(file)


def test_members_that_lie_over_each_other_are_refused(tmp_path: Path) -> None:
    """The directory of the archive names one range of bytes many times."""
    file = archive(tmp_path / "a.bin", pickled({"a": 1}), **{"0": bytes(5000)})
    with zipfile.ZipFile(file, "a") as made:
        first = made.getinfo("x/data/0")
        for number in range(1, 40):
            other = zipfile.ZipInfo(f"x/data/{number}")
            for name in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(other, name, getattr(first, name))
            made.filelist.append(other)
        made._didModify = True  # type: ignore[attr-defined]
    with pytest.raises(OddSizesError, match="bytes and the file"):
        read_pickled(file)


def test_broken_bytes_raise_what_is_known(tmp_path: Path) -> None:
    random.seed(0)
    for new in (True, False):
        torch.save(every_kind(), tmp_path / "good.bin", _use_new_zipfile_serialization=new)
        good = (tmp_path / "good.bin").read_bytes()
        for _ in range(150):
            broken = bytearray(good)
            for _ in range(3):
                broken[random.randrange(min(len(broken), 3000))] = random.randrange(256)
            file = tmp_path / "broken.bin"
            file.write_bytes(broken[: random.randrange(1, len(broken))] if new else broken)
            try:
                read_pickled(file)
            except BROKEN as error:
                assert why_unread(error)


def test_what_is_no_file_of_torch_is_said(tmp_path: Path) -> None:
    for content in (b"hello", b"", pickle.dumps({"a": 1}), pickle.dumps([1], protocol=2)):
        (tmp_path / "a.bin").write_bytes(content)
        with pytest.raises(BROKEN):
            read_state(tmp_path / "a.bin")
