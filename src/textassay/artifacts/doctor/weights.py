"""The files with weights: are they whole, and are the tensors in them numbers?

Of safetensors the headers are read, then one tensor at a time; of pickles names and shapes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from textassay.artifacts.doctor.findings import Diagnosis, read_object
from textassay.artifacts.fitting import StoredTensors, several
from textassay.errors import first_line
from textassay.models.pickled import BROKEN, read_state, why_unread

DTYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16",
          "I64": "int64", "I32": "int32", "I8": "int8", "U8": "uint8", "BOOL": "bool"}  # fmt: skip
FLOATS = {"float64", "float32", "bfloat16", "float16"}
PICKLED = {"model": "pytorch_model*.bin", "adapter_model": "adapter_model*.bin"}
COPY = "Copy it again from where it was made, or save it again."


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, by what the file's header says of it."""

    file: Path
    shape: tuple[int, ...]
    dtype: str

    @property
    def numel(self) -> int:
        """How many elements it has."""
        return torch.Size(self.shape).numel()


def names_and_shapes(stored: dict[str, Stored]) -> StoredTensors:
    """What the comparison with a model needs to know of them."""
    return StoredTensors(
        {name: tensor.shape for name, tensor in stored.items()},
        {name: tensor.file.name for name, tensor in stored.items()},
    )


def examine_weights(folder: Path, stem: str, diagnosis: Diagnosis) -> dict[str, Stored] | None:
    """Every tensor by name in `<stem>.safetensors`, its shards, or a pickle.

    None where they are not all to be had, which is then among the findings.
    """
    safe = sorted(folder.glob(f"{stem}*.safetensors"))
    index = folder / f"{stem}.safetensors.index.json"
    pickled = sorted(folder.glob(PICKLED[stem]))
    if safe or index.is_file():
        stored = _read_all(safe, diagnosis)
        whole = _examine_index(safe, index, stem, stored, diagnosis)
    elif pickled:
        stored, whole = _read_pickled(pickled, diagnosis), True
    else:
        diagnosis.wrong(f"{stem}.safetensors: is missing; there are no weights.", COPY)
        return None
    if stored is None:
        return None
    if whole and not stored:
        diagnosis.wrong(f"{stem}.safetensors: holds no tensor at all.", COPY)
        return None
    _tell_facts(stored, diagnosis)
    _refuse_no_numbers(stored, diagnosis)
    return stored if _examine_shapes(stored, diagnosis) and whole else None


def is_zero(stored: Stored, name: str) -> bool:
    """Whether all elements of a tensor in a safetensors file are 0; it is read."""
    with safe_open(stored.file, framework="pt") as tensors:
        return not bool(tensors.get_tensor(name).any())


def read_header(file: Path) -> dict[str, Stored]:
    """Every tensor by name in a safetensors file. Raises SafetensorError where it is not whole."""
    with safe_open(file, framework="pt") as tensors:
        slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
        return {
            name: Stored(file, tuple(part.get_shape()), DTYPES.get(d := part.get_dtype(), d))
            for name, part in slices.items()
        }


def _read_all(files: list[Path], diagnosis: Diagnosis) -> dict[str, Stored] | None:
    stored: dict[str, Stored] = {}
    broken = False
    for file in files:
        try:
            stored |= read_header(file)
        except SafetensorError as error:
            broken = True
            diagnosis.wrong(
                f"{file.name}: cannot be read; it is cut off or no safetensors file "
                f"({first_line(error)}).",
                COPY,
            )
    return None if broken else stored


def _examine_index(
    files: list[Path], index: Path, stem: str, stored: dict[str, Stored] | None,
    diagnosis: Diagnosis,
) -> bool:  # fmt: skip
    """Whether the shards are what the index says. One file needs no index."""
    single = f"{stem}.safetensors"
    names = {file.name for file in files}
    if not index.is_file():
        if names == {single}:
            return True
        diagnosis.wrong(
            f"{index.name}: is missing; {several(sorted(names - {single}))} cannot be put together "
            "without it.",
            COPY,
        )
        return False
    content = read_object(index, diagnosis)
    places = (content or {}).get("weight_map")
    if not (isinstance(places, dict) and places and _are_names(places.values())):
        if content is not None:
            diagnosis.wrong(f"{index.name}: has no weight_map of tensors to files.", COPY)
        return False
    missing = sorted(set(places.values()) - names)
    if missing:
        diagnosis.wrong(f"{several(missing)}: is missing; {index.name} names it.", COPY)
    found = {name: tensor.file.name for name, tensor in (stored or {}).items()}
    elsewhere = [name for name, file in places.items()
                 if stored is not None and file in names and found.get(name) != file]  # fmt: skip
    if elsewhere:
        diagnosis.wrong(
            f"{index.name}: the tensor {several(elsewhere)} is not in {places[elsewhere[0]]}, "
            "where the index has it.",
            "Save the model again, so that index and shards are of one piece.",
        )
    return not (missing or elsewhere)


def _are_names(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _read_pickled(files: list[Path], diagnosis: Diagnosis) -> dict[str, Stored] | None:
    stored: dict[str, Stored] = {}
    for file in files:
        try:
            state = read_state(file)
        except BROKEN as error:
            diagnosis.wrong(
                f"{file.name}: {why_unread(error)}; nothing in it was run.",
                "Take the weights from somewhere that you trust, as safetensors.",
            )
            return None
        stored |= {name: Stored(file, tuple(tensor.shape), str(tensor.dtype)[len("torch.") :])
                   for name, tensor in state.items()}  # fmt: skip
    diagnosis.note(
        f"{several([file.name for file in files])}: the weights are a pickle, which can run code "
        "in a careless reader; here nothing in it was run.",
        "Save the model as safetensors.",
    )
    return stored


def _tell_facts(stored: dict[str, Stored], diagnosis: Diagnosis) -> None:
    dtypes = sorted({tensor.dtype for tensor in stored.values()})
    floats = [dtype for dtype in dtypes if dtype in FLOATS]
    diagnosis.facts["dtype"] = ", ".join(floats or dtypes)
    diagnosis.facts["parameters"] = sum(tensor.numel for tensor in stored.values())


def _examine_shapes(stored: dict[str, Stored], diagnosis: Diagnosis) -> bool:
    """Whether every tensor has elements."""
    empty = _by_file(stored, (name for name, tensor in stored.items() if 0 in tensor.shape))
    for file, names in empty:
        diagnosis.wrong(
            f"{file.name}: the tensor {several(names)} has no elements, shape "
            f"{list(stored[names[0]].shape)}; it was saved without gathering what ZeRO-3 had cut.",
            "Take them from the ZeRO checkpoint with textassay consolidate, or train again.",
        )
    return not empty


def _refuse_no_numbers(stored: dict[str, Stored], diagnosis: Diagnosis) -> None:
    """The values of pickles are not looked at: they would have to be in memory all at once."""
    safe = [name for name, t in stored.items() if t.file.suffix == ".safetensors"]
    floats = (name for name in safe if stored[name].dtype in FLOATS)
    for file, names in _by_file(stored, floats):
        with safe_open(file, framework="pt") as tensors:
            odd = [n for n in names if not bool(tensors.get_tensor(n).isfinite().all())]
        if odd:
            diagnosis.wrong(
                f"{file.name}: the tensor {several(odd)} holds NaN or infinity.",
                "The training broke; train again with a lower learning rate, or without fp16.",
            )


def _by_file(
    stored: dict[str, Stored], names: Iterable[str]
) -> list[tuple[Path, list[str]]]:  # fmt: skip
    """The names by the file that holds them."""
    found: dict[Path, list[str]] = {}
    for name in names:
        found.setdefault(stored[name].file, []).append(name)
    return list(found.items())
