"""ZeRO checkpoints of DeepSpeed, read from the files themselves: docs/zero-format.md.

DeepSpeed is not imported, and no pickle is read that could run code: only tensors, containers and
three harmless classes, for which stand-ins are given.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from textassay.errors import DataError, UsageError, first_line

OPTIMIZER = "optimizer_state_dict"
MASTERS = {1: "single_partition_of_fp32_groups", 2: "single_partition_of_fp32_groups",
           3: "fp32_flat_groups"}  # fmt: skip
STEP = re.compile(r"^global_step(\d+)$")
RANK = re.compile(r"zero_pp_rank_(\d+)_mp_rank_(\d+)_(optim|model)_states\.pt$")
SHARED_MODEL_FILE = "mp_rank_00_model_states.pt"


class _StandIn:
    """Takes the place of a class of DeepSpeed's whose content does not matter here."""


class _Stage(int):
    """DeepSpeed's ZeroStageEnum: a whole number."""


STAGE_NAMES = {"disabled": 0, "optimizer_states": 1, "gradients": 2, "weights": 3}


def _stage_by_name(kind: Any, name: str) -> _Stage:
    """What older versions of Python 3.11 pickle for an enum's member: getattr(class, name)."""
    if kind is not _Stage or name not in STAGE_NAMES:
        raise UnpicklingError("getattr is allowed for a ZeRO stage alone")
    return _Stage(STAGE_NAMES[name])


STAND_INS: list[Any] = [
    (_stage_by_name, "builtins.getattr"),
    (_Stage, "deepspeed.runtime.zero.config.ZeroStageEnum"),
    (_StandIn, "deepspeed.runtime.fp16.loss_scaler.LossScaler"),
    (_StandIn, "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler"),
    (_StandIn, "deepspeed.utils.tensor_fragment.fragment_address"),
]


@dataclass(frozen=True)
class Placed:
    """A trained parameter and where it begins: in its group's flat vector, or in each rank's."""

    name: str
    shape: tuple[int, ...]
    group: int
    start: int

    @property
    def numel(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class ZeroCheckpoint:
    """A whole checkpoint: every file is there and every count agrees.

    `frozen` maps names to shapes; `stored_frozen` says whether their values are in the files.
    `shared` maps a tied parameter to the one that holds its values.
    """

    folder: Path
    stage: int
    world_size: int
    trained: list[Placed]
    frozen: dict[str, tuple[int, ...]]
    stored_frozen: bool
    shared: dict[str, str]
    buffers: list[str]
    optimizer_files: list[Path]
    model_files: list[Path]

    def numel(self) -> int:
        """How many trained elements there are."""
        return sum(placed.numel for placed in self.trained)

    def tensors(self, bytes_at_once: int) -> Iterator[tuple[str, torch.Tensor]]:
        """Every stored tensor by name: trained ones as fp32 masters, others as they were saved.

        The files are mapped into memory anew after every `bytes_at_once`, so that no more than
        about that much of them is held at a time.
        """
        reader, taken = _Reader(self), 0
        for placed in self.trained:
            if taken > bytes_at_once:
                reader, taken = _Reader(self), 0
            tensor = reader.trained(placed)
            taken += tensor.numel() * tensor.element_size()
            yield placed.name, tensor
        yield from reader.others()


def open_checkpoint(path: Path) -> ZeroCheckpoint:
    """The ZeRO checkpoint in `global_stepN/`, in a `checkpoint-N/` above it, or in their parent.

    Raises UsageError where there is none, DataError where it is not whole, naming the file.
    """
    folder = find_step_folder(path)
    optimizer_files = _by_rank(folder, "optim")
    if not optimizer_files:
        raise DataError(f"{folder}: holds no zero_pp_rank_*_optim_states.pt, so no ZeRO states.")
    states = [_states(file) for file in optimizer_files]
    stage, world_size = _stage_and_world_size(states[0], optimizer_files[0])
    _refuse_missing_ranks(folder, optimizer_files, world_size)
    model_files = _by_rank(folder, "model") if stage == 3 else [folder / SHARED_MODEL_FILE]
    if stage == 3:
        _refuse_missing_ranks(folder, model_files, world_size)
    model = _load(model_files[0])
    groups = [_shapes(group, model_files[0])
              for group in _entry(model, "param_shapes", list, model_files[0])]  # fmt: skip
    paddings = states[0].get("param_alignment_paddings")
    place = _place_in_ranks if stage == 3 else _place_in_groups
    masters = [_masters(state, stage, file)
               for state, file in zip(states, optimizer_files, strict=True)]  # fmt: skip
    trained = place(groups, masters, paddings, folder)
    return ZeroCheckpoint(
        folder=folder,
        stage=stage,
        world_size=world_size,
        trained=trained,
        frozen=_shapes(model.get("frozen_param_shapes") or {}, model_files[0]),
        stored_frozen=bool(model.get("frozen_param_fragments")),
        shared=dict(model.get("shared_params") or {}),
        buffers=list(model.get("buffer_names") or []),
        optimizer_files=optimizer_files,
        model_files=model_files,
    )


def find_step_folder(path: Path) -> Path:
    """The `global_stepN/` that a path means; of several the one that `latest` names."""
    if not path.is_dir():
        raise UsageError(f"{path}: there is no such directory.")
    if STEP.match(path.name) or _by_rank(path, "optim"):
        return path
    latest = path / "latest"
    if latest.is_file():
        named = path / latest.read_text(encoding="utf-8").strip()
        if not named.is_dir():
            raise DataError(f"{latest}: names {named.name}, and there is no such directory.")
        return named
    steps = sorted((p for p in path.iterdir() if p.is_dir() and STEP.match(p.name)), key=_number)
    if steps:
        return steps[-1]
    checkpoints = [p for p in path.glob("checkpoint-*") if (p / "latest").is_file()]
    if checkpoints:
        return find_step_folder(max(checkpoints, key=_number))
    raise UsageError(f"{path}: holds no ZeRO checkpoint (no global_stepN/ and no `latest`).")


def _number(path: Path) -> int:
    digits = re.search(r"(\d+)$", path.name)
    return int(digits[1]) if digits else -1


def _by_rank(folder: Path, kind: str) -> list[Path]:
    """The files of a kind in the order of their ranks."""
    found = {}
    for file in folder.iterdir():
        match = RANK.search(file.name)
        if match and match[3] == kind:
            if int(match[2]):
                raise DataError(
                    f"{file}: is of a model that was cut over several devices (tensor parallel), "
                    "which is not read; consolidate it with what trained it."
                )
            found[int(match[1])] = file
    return [found[rank] for rank in sorted(found)]


def _load(file: Path) -> dict[str, Any]:
    """A file of a checkpoint, its tensors mapped, not read. DataError where it is broken."""
    if not file.is_file():
        raise DataError(f"{file}: is missing; the checkpoint is not whole.")
    try:
        with torch.serialization.safe_globals(STAND_INS):
            content = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)|(getattr is allowed.*)", str(error))
        what = f" ({named[1] or named[2]})" if named else ""
        raise DataError(
            f"{file}: holds more than tensors and plain values{what}, so it is not read."
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        first = first_line(error)
        raise DataError(f"{file}: cannot be read; it may be cut off ({first[:200]}).") from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: is no file of a ZeRO checkpoint, but a {type(content).__name__}.")
    return content


def _entry(content: Mapping[str, Any], key: str, kind: type | tuple[type, ...], file: Path) -> Any:
    """What stands under a key, if it is of that kind. DataError where it is not."""
    found = content.get(key)
    if not isinstance(found, kind):
        raise DataError(f"{file}: has no {key}, so it is no file of a ZeRO checkpoint.")
    return found


def _states(file: Path) -> dict[str, Any]:
    states: dict[str, Any] = _entry(_load(file), OPTIMIZER, dict, file)
    return states


def _stage_and_world_size(states: dict[str, Any], file: Path) -> tuple[int, int]:
    stage = int(_entry(states, "zero_stage", int, file))
    if stage not in MASTERS:
        raise DataError(f"{file}: is of ZeRO stage {stage}; 1, 2 and 3 are known.")
    count = _entry(states, "partition_count", (int, list), file)
    return stage, int(max(count) if isinstance(count, list) else count)


def _masters(states: dict[str, Any], stage: int, file: Path) -> list[torch.Tensor]:
    masters: list[torch.Tensor] = _entry(states, MASTERS[stage], list, file)
    if not all(isinstance(flat, torch.Tensor) for flat in masters):
        raise DataError(f"{file}: {MASTERS[stage]} holds something else than tensors.")
    return masters


def _shapes(group: Mapping[str, Any], file: Path) -> dict[str, tuple[int, ...]]:
    shapes = {name: tuple(shape) for name, shape in group.items()}
    for name, shape in shapes.items():
        if any(not isinstance(side, int) or side < 0 for side in shape):
            raise DataError(f"{file}: the shape of {name} is {shape}, which no tensor has.")
    return shapes


def _refuse_missing_ranks(folder: Path, files: Sequence[Path], world_size: int) -> None:
    ranks = {int(match[1]) for file in files if (match := RANK.search(file.name))}
    missing = sorted(set(range(world_size)) - ranks)
    if missing:
        raise DataError(
            f"{folder}: was written by {world_size} ranks, and the files of rank "
            f"{', '.join(map(str, missing))} are missing; copy them from where they were written."
        )
    if len(ranks) > world_size:
        raise DataError(
            f"{folder}: was written by {world_size} ranks and holds files of {len(ranks)}; two "
            "checkpoints were mixed."
        )


def _place_in_ranks(
    groups: list[dict[str, tuple[int, ...]]], ranks: list[list[torch.Tensor]], _: Any, folder: Path
) -> list[Placed]:
    """Stage 3: each parameter is cut into equal pieces, one a rank, one behind the other."""
    placed, start, world_size = [], 0, len(ranks)
    for group in groups:
        for name, shape in group.items():
            placed.append(Placed(name, shape, 0, start))
            start += math.ceil(math.prod(shape) / world_size)
    for rank, flats in enumerate(ranks):
        held = sum(flat.numel() for flat in flats)
        if held != start:
            raise DataError(
                f"{folder}: rank {rank} holds {held:,} elements where the shapes want {start:,}; "
                "its file is of another step or another model."
            )
    return placed


def _place_in_groups(
    groups: list[dict[str, tuple[int, ...]]], ranks: list[list[torch.Tensor]], paddings: Any,
    folder: Path,
) -> list[Placed]:  # fmt: skip
    """Stages 1 and 2: a group is one flat vector of all its parameters, cut over the ranks."""
    placed, world_size = [], len(ranks)
    if any(len(flats) != len(groups) for flats in ranks):
        raise DataError(
            f"{folder}: the shapes are of {len(groups)} groups and a rank holds another number; a "
            "file is of another step or another model."
        )
    for number, group in enumerate(groups):
        start = 0
        for index, (name, shape) in enumerate(group.items()):
            placed.append(Placed(name, shape, number, start))
            start += math.prod(shape) + (paddings[number][index] if paddings else 0)
        held = sum(flats[number].numel() for flats in ranks)
        if not start <= held < start + 2 * world_size + 1:
            raise DataError(
                f"{folder}: the ranks hold {held:,} elements of group {number} where the shapes "
                f"want {start:,}; a file is of another step or another model."
            )
    return placed


class _Reader:
    """The mapped files of a checkpoint."""

    def __init__(self, checkpoint: ZeroCheckpoint) -> None:
        key = MASTERS[checkpoint.stage]
        self._checkpoint = checkpoint
        self._ranks = [_states(file)[key] for file in checkpoint.optimizer_files]

    def trained(self, placed: Placed) -> torch.Tensor:
        """The fp32 master of a parameter, in its shape, copied out of the files."""
        if self._checkpoint.stage == 3:
            piece = math.ceil(placed.numel / self._checkpoint.world_size)
            parts = [part for flats in self._ranks for part in _span(flats, placed.start, piece)]
        else:
            flats = [flats[placed.group] for flats in self._ranks]
            parts = _span(flats, placed.start, placed.numel)
        return torch.cat(parts)[: placed.numel].view(placed.shape)

    def others(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Buffers, and the frozen parameters where they were saved."""
        models = [_load(file) for file in self._checkpoint.model_files]
        for name in self._checkpoint.buffers:
            tensor = models[0]["module"][name]
            yield name, tensor.float() if tensor.is_floating_point() else tensor
        if not self._checkpoint.stored_frozen:
            return
        for name, shape in self._checkpoint.frozen.items():
            pieces = [model["frozen_param_fragments"][name].flatten() for model in models]
            yield name, torch.cat(pieces)[: math.prod(shape)].view(shape)


def _span(flats: Sequence[torch.Tensor], start: int, count: int) -> list[torch.Tensor]:
    """`count` elements from `start` on in what the flat tensors are one behind the other."""
    parts, position = [], 0
    for flat in flats:
        low = max(start, position)
        high = min(start + count, position + flat.numel())
        if low < high:
            parts.append(flat[low - position : high - position])
        position += flat.numel()
    return parts
