"""The files of a ZeRO checkpoint: which there are, what they say, and numbers read out of them.

DeepSpeed is not imported, and nothing that a file names is run (models/pickled.py): it holds
tensors, containers and three harmless classes, for which stand-ins are given.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from textassay.errors import DataError, UsageError
from textassay.links import refuse_link
from textassay.models.pickled import BROKEN, place_of, read_pickled, why_unread

STEP = re.compile(r"^global_step(\d+)$")
RANK = re.compile(r"zero_pp_rank_(\d+)_mp_rank_(\d+)_(optim|model)_states\.pt$")


class _StandIn:
    """Takes the place of a class of DeepSpeed's whose content does not matter here."""


class _Stage(int):
    """DeepSpeed's ZeroStageEnum: a whole number."""


STAGE_NAMES = {"disabled": 0, "optimizer_states": 1, "gradients": 2, "weights": 3}


def _stage_by_name(kind: Any, name: str) -> Any:
    """What older versions of Python 3.11 pickle for an enum's member: getattr(class, name)."""
    known = isinstance(name, str) and name in STAGE_NAMES
    if getattr(kind, "__name__", "") not in ("_Stage", "ZeroStageEnum") or not known:
        raise UnpicklingError("getattr is allowed for a ZeRO stage alone")
    return kind(STAGE_NAMES[name])


STAND_INS: dict[str, Any] = {
    "builtins.getattr": _stage_by_name,
    "__builtin__.getattr": _stage_by_name,
    "deepspeed.runtime.zero.config.ZeroStageEnum": _Stage,
    "deepspeed.runtime.fp16.loss_scaler.LossScaler": _StandIn,
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler": _StandIn,
    "deepspeed.utils.tensor_fragment.fragment_address": _StandIn,
}
SHOWN_RANKS = 8
FORCE_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def find_step_folder(path: Path) -> Path:
    """The `global_stepN/` that a path means; of several the one that `latest` names."""
    if not path.is_dir():
        raise UsageError(f"{path}: there is no such directory.")
    if STEP.match(path.name) or by_rank(path, "optim"):
        return path
    latest = path / "latest"
    refuse_link(latest, path)
    if latest.is_file():
        return _named_by(latest)
    steps = sorted((p for p in path.iterdir() if p.is_dir() and STEP.match(p.name)), key=_number)
    if steps:
        refuse_link(steps[-1], path)
        return steps[-1]
    checkpoints = [p for p in path.glob("checkpoint-*") if (p / "latest").is_file()]
    if checkpoints:
        newest = max(checkpoints, key=_number)
        refuse_link(newest, path)
        return find_step_folder(newest)
    raise UsageError(f"{path}: holds no ZeRO checkpoint (no global_stepN/ and no `latest`).")


def _named_by(latest: Path) -> Path:
    """The folder that `latest` names, which lies beside it and is no link."""
    name = latest.read_text(encoding="utf-8", errors="replace").strip()
    folder = latest.parent / name
    if Path(name).name != name or name == ".." or folder.is_symlink():
        raise DataError(
            f"{latest}: names {name[:100]!r}, which is no folder beside it; checkpoints are read "
            "from their own folder alone."
        )
    if not folder.is_dir():
        raise DataError(f"{latest}: names {name[:100]}, and there is no such directory.")
    return folder


def places_beside(step_folder: Path) -> list[Path]:
    """Where the configs of a checkpoint may lie: in `checkpoint-N/`, or in the run above."""
    return [step_folder.parent, step_folder.parent.parent]


def _number(path: Path) -> int:
    digits = re.search(r"(\d+)$", path.name)
    return int(digits[1]) if digits else -1


def by_rank(folder: Path, kind: str) -> list[Path]:
    """The files of a kind, `optim` or `model`, in the order of their ranks."""
    found: dict[int, Path] = {}
    for file in folder.iterdir():
        match = RANK.search(file.name)
        if match and match[3] == kind:
            if int(match[2]):
                raise DataError(
                    f"{file}: is of a model that was cut over several devices (tensor parallel), "
                    "which is not read; consolidate it with what trained it."
                )
            other = found.setdefault(int(match[1]), file)
            if other != file:
                raise DataError(
                    f"{folder}: holds two files of rank {match[1]}, {other.name} and {file.name}; "
                    "remove the one that does not belong to this checkpoint."
                )
    return [found[rank] for rank in sorted(found)]


def refuse_missing_ranks(folder: Path, files: Sequence[Path], world_size: int) -> None:
    """DataError where the files are not those of all ranks, and of no others."""
    ranks = {int(match[1]) for file in files if (match := RANK.search(file.name))}
    # Who says that there were a billion ranks is not believed.
    first = list(islice((rank for rank in range(world_size) if rank not in ranks), SHOWN_RANKS))
    if first:
        more = world_size - sum(rank < world_size for rank in ranks) - len(first)
        listed = ", ".join(map(str, first)) + (f" and {more:,} more" if more > 0 else "")
        raise DataError(
            f"{folder}: was written by {world_size} ranks, and the files of rank {listed} are "
            "missing; copy them from where they were written."
        )
    if len(ranks) > world_size:
        raise DataError(
            f"{folder}: was written by {world_size} ranks and holds files of {len(ranks)}; two "
            "checkpoints were mixed."
        )


def load(file: Path) -> dict[str, Any]:
    """What a file says. Its tensors are not read: they are of the device `meta`; see `stored`.

    DataError where the file is missing, broken, or holds what is not read.
    """
    if not file.is_file():
        raise DataError(f"{file}: is missing; the checkpoint is not whole.")
    try:
        content = read_pickled(file, STAND_INS)
    except BROKEN as error:
        raise DataError(f"{file}: {why_unread(error)}.") from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: is no file of a ZeRO checkpoint, but a {type(content).__name__}.")
    return content


@contextmanager
def deepspeed_loads_weights_only() -> Iterator[None]:
    """In the block DeepSpeed, which asks torch to unpickle anything, gets plain values alone.

    Tensors, containers and the classes that its own checkpoints need are read; whatever else a file
    holds raises UnpicklingError before it runs.
    """
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    allowed = [(_stage_by_name, "builtins.getattr"), ZeroStageEnum, LossScaler, DynamicLossScaler,
               fragment_address]  # fmt: skip
    before = os.environ.get(FORCE_WEIGHTS_ONLY)
    os.environ[FORCE_WEIGHTS_ONLY] = "1"
    try:
        with torch.serialization.safe_globals(allowed):
            yield
    finally:
        os.environ.pop(FORCE_WEIGHTS_ONLY)
        if before is not None:
            os.environ[FORCE_WEIGHTS_ONLY] = before


def entry(content: Mapping[str, Any], key: str, kind: type | tuple[type, ...], file: Path) -> Any:
    """What stands under a key, if it is of that kind. DataError where it is not."""
    found = content.get(key)
    if not isinstance(found, kind):
        raise DataError(f"{file}: has no {key}, so it is no file of a ZeRO checkpoint.")
    return found


@dataclass(frozen=True)
class Stored:
    """Numbers that lie in a file one behind the other, from a byte on."""

    file: Path
    offset: int
    dtype: torch.dtype
    numel: int

    def cut(self, start: int, count: int) -> "Stored":
        """`count` of them, from the number `start` on; fewer where it ends."""
        count = min(count, self.numel - start)
        return replace(self, offset=self.offset + start * self.dtype.itemsize, numel=count)

    def read(self, buffer: torch.Tensor) -> torch.Tensor:
        """They, read into the beginning of a buffer of bytes. DataError where the file ends."""
        content = buffer[: self.numel * self.dtype.itemsize]
        # Read and not mapped: mapped pages would count as memory of this process.
        with self.file.open("rb") as file:
            file.seek(self.offset)
            count = file.readinto(content.numpy().data)
        if count != content.numel():
            raise DataError(f"{self.file}: ends before its numbers do; it was cut off.")
        return content.view(self.dtype)


@dataclass(frozen=True)
class StoredTensor:
    """A named tensor whose numbers lie in pieces, perhaps of several files.

    `dtype` is what it is read as. `stride` is given where the numbers do not lie row by row.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    pieces: list[Stored]
    stride: tuple[int, ...] | None = None

    def parts(self, buffer: torch.Tensor) -> Iterator[torch.Tensor]:
        """Its numbers, flat and in their order, as many at a time as the buffer of bytes holds.

        The next part may overwrite the one before.
        """
        if self.stride is not None:
            yield self.whole().flatten()
            return
        for piece in self.pieces:
            count = buffer.numel() // piece.dtype.itemsize
            for start in range(0, piece.numel, count):
                yield piece.cut(start, count).read(buffer).to(self.dtype)

    def whole(self) -> torch.Tensor:
        """The tensor, in memory of its own."""
        dtype = self.pieces[0].dtype if self.pieces else self.dtype
        flat = torch.empty(sum(piece.numel for piece in self.pieces), dtype=dtype)
        start = 0
        for piece in self.pieces:
            piece.read(flat[start : start + piece.numel].view(torch.uint8))
            start += piece.numel
        if self.stride is not None:
            return flat.as_strided(self.shape, self.stride).to(self.dtype).contiguous()
        return flat.view(self.shape).to(self.dtype)


def stored(tensor: torch.Tensor, file: Path) -> Stored:
    """Where the numbers of a tensor lie that `load` has found in the file."""
    if place_of(tensor) < 0:
        raise DataError(f"{file}: is of a torch before 1.6, which wrote no ZeRO checkpoint.")
    # From its first number to its last one, whatever lies between them.
    reach = 1 + sum((side - 1) * step
                    for side, step in zip(tensor.shape, tensor.stride(), strict=True))  # fmt: skip
    return Stored(file, place_of(tensor), tensor.dtype, reach if tensor.numel() else 0)


def stored_tensor(name: str, tensor: torch.Tensor, dtype: torch.dtype, file: Path) -> StoredTensor:
    """A tensor that lies in the file whole."""
    stride = None if tensor.is_contiguous() else tensor.stride()
    return StoredTensor(name, tuple(tensor.shape), dtype, [stored(tensor, file)], stride)


def joined(
    name: str, shape: tuple[int, ...], dtype: torch.dtype, pieces: Sequence[Stored]
) -> StoredTensor:
    """A tensor of pieces one behind the other; what is behind its last number is padding."""
    kept: list[Stored] = []
    missing = math.prod(shape)
    for piece in pieces:
        if missing or not kept:
            kept.append(piece.cut(0, missing))
            missing -= kept[-1].numel
    if missing:
        raise DataError(f"{name}: {missing:,} of its numbers are in no file of the checkpoint.")
    return StoredTensor(name, shape, dtype, kept)
