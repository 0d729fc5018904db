"""Files written part by part, read back by the safetensors library."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from textassay.artifacts.zero.shards import write_shards
from textassay.artifacts.zero.stream import DTYPE_NAMES, Entry, write_safetensors
from textassay.errors import DataError

SHAPES = st.lists(st.integers(1, 5), max_size=4).map(tuple)
TENSORS = st.lists(st.tuples(st.sampled_from(list(DTYPE_NAMES)), SHAPES), min_size=1, max_size=8)


def entry_of(name: str, tensor: torch.Tensor, at_once: int = 3) -> Entry:
    """The tensor in parts of a few numbers, all of them in the same buffer."""

    def parts() -> Iterator[torch.Tensor]:
        buffer = torch.empty(at_once, dtype=tensor.dtype)
        for part in tensor.flatten().split(at_once):
            yield buffer[: len(part)].copy_(part)

    return Entry(name, tensor.dtype, tuple(tensor.shape), parts)


def drawn(dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """Any bits that a tensor of that kind can hold."""
    if dtype is torch.bool:
        return torch.rand(shape) < 0.5
    flat = torch.randint(0, 256, (torch.Size(shape).numel() * dtype.itemsize,), dtype=torch.uint8)
    return flat.view(dtype).view(shape)


def bits(tensor: torch.Tensor) -> list[int]:
    """The bytes, since no NaN is equal to itself."""
    return tensor.flatten().view(torch.uint8).tolist()


@given(TENSORS, st.integers(1, 50))
def test_every_dtype_and_shape_comes_back(
    tmp_path: Path, kinds: list[tuple[torch.dtype, tuple[int, ...]]], at_once: int
) -> None:
    tensors = {f"层.{index}": drawn(*kind) for index, kind in enumerate(kinds)}
    path = tmp_path / "model.safetensors"
    told: list[int] = []
    write_safetensors(path, [entry_of(*item, at_once) for item in tensors.items()], told.append)
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
        assert bits(found[name]) == bits(tensor)
    assert sum(told) == sum(tensor.nbytes for tensor in tensors.values())
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_the_bytes_are_those_that_the_library_writes(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(3) > 1, "b": torch.randn(5, 3), "c": torch.randn(7).half(),
               "d": torch.arange(3)}  # fmt: skip
    write_safetensors(tmp_path / "ours", [entry_of(*item) for item in tensors.items()])
    save_file(tensors, tmp_path / "theirs", {"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_every_tensor_begins_at_a_multiple_of_its_width(tmp_path: Path) -> None:
    tensors = {"flags": torch.ones(3) > 0, "half": torch.ones(3).half(), "whole": torch.ones(3),
               "counts": torch.arange(3)}  # fmt: skip
    write_safetensors(tmp_path / "file", [entry_of(*item) for item in tensors.items()])
    content = (tmp_path / "file").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    for name, tensor in tensors.items():
        assert header[name]["data_offsets"][0] % tensor.dtype.itemsize == 0


MEMORY = """
import re, sys
from pathlib import Path
import torch
from textassay.artifacts.zero.stream import Entry, write_safetensors
from textassay.artifacts.zero.files import Stored, joined

def peak():  # ru_maxrss would begin with that of the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

source, target = map(Path, sys.argv[1:])
numel = source.stat().st_size // 4
tensor = joined("large", (numel,), torch.float32, [Stored(source, 0, torch.float32, numel)])
buffer = torch.empty(2**20, dtype=torch.uint8)
before = peak()
entry = Entry("large", torch.bfloat16, tensor.shape,
              lambda: (part.bfloat16() for part in tensor.parts(buffer)))
write_safetensors(target, [entry])
print(peak() - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_a_tensor(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(400 * 10**6)
    target = tmp_path / "target"
    command = [sys.executable, "-c", MEMORY, str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert target.stat().st_size > 200 * 10**6
    assert int(done.stdout) < 40 * 10**6


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_an_empty_tensor_is_refused_before_anything_is_written(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="head: has no elements"):
        write_safetensors(tmp_path / "file", [entry_of("head", torch.empty(shape))])
    assert not (tmp_path / "file").exists()


def test_a_dtype_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"wave: is of torch.complex64"):
        write_safetensors(tmp_path / "file", [entry_of("wave", torch.ones(3).to(torch.complex64))])


def test_parts_that_are_not_what_was_announced_are_errors(tmp_path: Path) -> None:
    whole = torch.ones(4)
    short = Entry("a", torch.float32, (5,), lambda: [whole])
    with pytest.raises(ValueError, match="a: 16 bytes came instead of 20"):
        write_safetensors(tmp_path / "file", [short])
    other = Entry("a", torch.float16, (8,), lambda: [whole])
    with pytest.raises(ValueError, match=r"a part is torch.float32"):
        write_safetensors(tmp_path / "file", [other])
    with pytest.raises(ValueError, match="a: stands there twice"):
        write_safetensors(tmp_path / "file", [entry_of("a", whole), entry_of("a", whole)])


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 60))
def test_shards_keep_to_their_size_and_the_index_finds_all(
    tmp_path: Path, lengths: list[int], limit: int
) -> None:
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    folder.mkdir()
    tensors = {f"t{index:02}": torch.rand(length) for index, length in enumerate(lengths)}
    shards = write_shards([entry_of(*item) for item in tensors.items()], folder, "model", 4 * limit)
    contents = [load_file(shard) for shard in shards]
    assert {name: tensor.tolist() for part in contents for name, tensor in part.items()} == {
        name: tensor.tolist() for name, tensor in tensors.items()
    }
    for part in contents:
        assert len(part) == 1 or sum(tensor.nbytes for tensor in part.values()) <= 4 * limit
    if len(shards) == 1:
        assert [path.name for path in folder.iterdir()] == ["model.safetensors"]
        return
    assert shards[0].name == f"model-00001-of-{len(shards):05}.safetensors"
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 4 * sum(lengths)
    assert all(name in load_file(folder / place) for name, place in index["weight_map"].items())
    assert index["weight_map"].keys() == tensors.keys()


def test_without_a_limit_there_is_one_file(tmp_path: Path) -> None:
    entries = [entry_of(str(index), torch.ones(9)) for index in range(5)]
    (shard,) = write_shards(entries, tmp_path, "adapter_model", None)
    assert shard.name == "adapter_model.safetensors" and len(load_file(shard)) == 5
