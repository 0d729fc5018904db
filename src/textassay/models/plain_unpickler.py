"""An unpickler for what `torch.save` writes: plain values, and tensors without their numbers.

Nothing that a pickle names is run, and what it says of sizes is compared with the bytes that are
there before anything of that size is made.
"""

import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any, ClassVar

import torch

from textassay.console import counted

# The operations that torch.save writes and torch's own weights-only loader knows.
OPERATIONS = (
    pickle.PROTO, pickle.STOP, pickle.MARK, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE,
    pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT,
    pickle.BINUNICODE, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2,
    pickle.TUPLE3, pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT,
    pickle.SETITEM, pickle.SETITEMS, pickle.BINGET, pickle.LONG_BINGET, pickle.BINPUT,
    pickle.LONG_BINPUT, pickle.GLOBAL, pickle.REDUCE, pickle.NEWOBJ, pickle.BUILD,
    pickle.BINPERSID,
)  # fmt: skip
STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool, "UntypedStorage": torch.uint8,
}  # fmt: skip
DTYPES = (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
    "float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64", "complex64",
)  # fmt: skip
# What tensors may take together: those that share numbers are counted each, tied weights say.
MOST_BYTES = 4
# The attribute of a tensor that holds the byte of the file at which it begins.
PLACE = "place_in_file"
# The one in Python: that in C makes room for whatever number an entry of its memo has.
Unpickler: Any = vars(pickle)["_Unpickler"]


class OddSizesError(ValueError):
    """A file says of sizes what its bytes cannot hold, or hides how many there are."""


@dataclass(frozen=True)
class Storage:
    """Numbers that lie in a file one behind the other; `offset` is in bytes."""

    dtype: torch.dtype
    offset: int
    nbytes: int


class PlainUnpickler(Unpickler):
    """An unpickler that makes plain values, and tensors without numbers.

    `find(key)` says where a storage begins and how many bytes are there; `told` takes how many
    bytes each is said to have. `size` is the file's.
    """

    dispatch: ClassVar[dict[int, Any]] = {key[0]: Unpickler.dispatch[key[0]] for key in OPERATIONS}

    def __init__(
        self, stream: Any, find: Callable[[str], tuple[int, int]], size: int,
        classes: Mapping[str, Any], told: dict[str, int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(stream)
        self.find, self.size, self.told = find, size, {} if told is None else told
        self.bytes_of_tensors = 0
        self.known = {
            "collections.OrderedDict": OrderedDict,
            "torch.Size": torch.Size,
            "torch.device": _text_of,
            "_codecs.encode": _bytes_of,
            "__builtin__.set": _set_of,
            "torch._utils._rebuild_tensor": self.rebuild,
            "torch._utils._rebuild_tensor_v2": self.rebuild,
            "torch._utils._rebuild_tensor_v3": self.rebuild_bytes,
            "torch._tensor._rebuild_from_type_v2": self.rebuild_with_state,
            # Names of kinds, and nothing that could be called.
            "torch.Tensor": "tensor",
            "torch.nn.parameter.Parameter": "parameter",
            "torch._utils._rebuild_parameter": _data_of,
            "torch._utils._rebuild_parameter_with_state": _data_of,
            **{f"torch.{name}": getattr(torch, name) for name in DTYPES},
            **{f"torch.{name}": dtype for name, dtype in STORAGES.items()},
            "torch.storage.UntypedStorage": torch.uint8,
            **classes,
        }

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name; UnpicklingError for one that is not known."""
        full = f"{module}.{name}"
        if full not in self.known:
            raise UnpicklingError(full[:100])
        return self.known[full]

    def persistent_load(self, pid: Any) -> Storage:
        """The place of a storage. OddSizesError where the file has fewer bytes of it."""
        kind, dtype, key, _, numel = pid[:5]
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise UnpicklingError("a storage of a kind that is not known")
        offset, held = self.find(str(key))
        nbytes = dtype.itemsize * _whole(numel)
        if nbytes > held:
            raise OddSizesError(
                f"one of its storages has {counted(held, 'byte')}, and says {nbytes:,}"
            )
        self.told[str(key)] = nbytes
        return Storage(dtype, offset, nbytes)

    def rebuild(self, storage: Storage, offset: int, size: Any, stride: Any, *_: Any) -> Any:
        """A tensor whose numbers lie in a storage."""
        return self._tensor(storage, storage.dtype, offset, size, stride)

    def rebuild_bytes(
        self, storage: Storage, offset: int, size: Any, stride: Any, grad: Any, hooks: Any,
        dtype: torch.dtype, *_: Any,
    ) -> Any:  # fmt: skip
        """A tensor of a type that torch has no storage for, in one of bytes."""
        return self._tensor(storage, dtype, offset, size, stride)

    def rebuild_with_state(self, function: Any, kind: Any, arguments: Any, state: Any) -> Any:
        """A tensor that was saved with attributes, as DeepSpeed's masters in bf16 are."""
        if function not in (self.rebuild, self.rebuild_bytes, _data_of):
            raise UnpicklingError("a tensor that is made by something else")
        return function(*arguments)

    def _tensor(
        self, storage: Storage, dtype: torch.dtype, offset: Any, size: Any, stride: Any
    ) -> torch.Tensor:
        sides, steps = [_whole(side) for side in size], [_whole(step) for step in stride]
        numel = math.prod(sides)
        reach = 1 + sum((side - 1) * step for side, step in zip(sides, steps, strict=True))
        start = _whole(offset) * dtype.itemsize
        wanted = max(reach, numel) * dtype.itemsize if numel else 0
        if start + wanted > storage.nbytes:
            raise OddSizesError(
                f"a tensor of {numel:,} numbers lies in a storage of "
                f"{storage.nbytes // dtype.itemsize:,}"
            )
        self.bytes_of_tensors += wanted
        if self.bytes_of_tensors > MOST_BYTES * self.size:
            raise OddSizesError(
                f"its tensors have more than {MOST_BYTES} times the bytes of the file, so the same "
                "numbers stand for many"
            )
        tensor = torch.empty_strided(sides, steps, dtype=dtype, device="meta")
        setattr(tensor, PLACE, storage.offset + start)
        return tensor

    def load_setitem(self) -> None:
        """One entry of a dictionary, whose key is plain."""
        _refuse_odd_keys([self.stack[-2]])
        super().load_setitem()

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        """Entries of a dictionary, whose keys are plain."""
        _refuse_odd_keys(self.stack[::2])
        super().load_setitems()

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_reduce(self) -> None:
        """A call of something known; a dictionary begins empty."""
        if self.stack[-2] is OrderedDict and self.stack[-1] != ():
            raise UnpicklingError("a dictionary that is made of something")
        super().load_reduce()

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_build(self) -> None:
        """The state of an object: it is not needed, of a dictionary or of a stand-in."""
        self.stack.pop()

    dispatch[pickle.BUILD[0]] = load_build


def _whole(number: Any) -> int:
    if not isinstance(number, int) or not 0 <= number < 2**63:
        raise OddSizesError("a size in it is no whole number of at most 63 bits")
    return int(number)


def _refuse_odd_keys(keys: Sequence[Any]) -> None:
    """What is nested would take for ever to be looked up."""
    if not all(isinstance(key, str | int | float) for key in keys):
        raise UnpicklingError("a key that is no text and no number")


def _bytes_of(text: Any, encoding: Any) -> bytes:
    """How protocol 2 writes bytes; other encodings could make much of little."""
    if not isinstance(text, str) or encoding != "latin1":
        raise UnpicklingError("_codecs.encode is allowed for bytes alone")
    return text.encode("latin1")


def _set_of(entries: Any = ()) -> set[Any]:
    _refuse_odd_keys(entries)
    return set(entries)


def _text_of(*names: Any) -> str:
    """A device is nothing but its name here."""
    return str(names[0])[:20] if names and isinstance(names[0], str) else ""


def _data_of(data: Any, *_: Any) -> Any:
    """A parameter is its tensor here."""
    return data
