"""ZeRO checkpoints of DeepSpeed, read from the files themselves: docs/zero-format.md.

Opening one reads no numbers: it finds out where each parameter's lie, and checks every count.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from textassay.artifacts.zero.files import (
    Stored,
    StoredTensor,
    by_rank,
    entry,
    find_step_folder,
    joined,
    load,
    refuse_missing_ranks,
    stored,
    stored_tensor,
)
from textassay.artifacts.zero.places import Flats, Placed, place_in_groups, place_in_ranks
from textassay.errors import DataError, first_line
from textassay.links import refuse_links

OPTIMIZER = "optimizer_state_dict"
MASTERS = {1: "single_partition_of_fp32_groups", 2: "single_partition_of_fp32_groups",
           3: "fp32_flat_groups"}  # fmt: skip
BASE_OPTIMIZER = {1: "base_optimizer_state", 2: "base_optimizer_state", 3: OPTIMIZER}
PEFT_PREFIX = "base_model.model."
SHARED_MODEL_FILE = "mp_rank_00_model_states.pt"


@dataclass(frozen=True)
class ZeroCheckpoint:
    """A whole checkpoint: every file is there and every count agrees.

    `frozen` maps names to shapes; `stored_frozen` says whether their values are in the files.
    `shared` maps a tied parameter to the one that holds its values. `masters` are each rank's flat
    tensors, `others` the buffers, and the frozen parameters where they are stored.
    """

    folder: Path
    stage: int
    world_size: int
    trained: list[Placed]
    frozen: dict[str, tuple[int, ...]]
    stored_frozen: bool
    shared: dict[str, str]
    masters: list[list[Stored]]
    others: list[StoredTensor]

    @property
    def holds_adapter(self) -> bool:
        """Whether what was trained is an adapter of PEFT's and not a whole model."""
        return any(placed.name.startswith(PEFT_PREFIX) for placed in self.trained)

    def numel(self) -> int:
        """How many trained elements there are."""
        return sum(placed.numel for placed in self.trained)

    def stored(self) -> Iterator[StoredTensor]:
        """Every stored tensor, not read: trained ones are fp32 masters, others as they were saved.

        Buffers of floating numbers are read as fp32.
        """
        if self.stage == 3:
            ranks = [Flats(flats) for flats in self.masters]
            for placed in self.trained:
                piece = math.ceil(placed.numel / self.world_size)
                pieces = [p for flats in ranks for p in flats.span(placed.start, piece)]
                yield joined(placed.name, placed.shape, torch.float32, pieces)
        else:
            groups = [Flats(flats) for flats in zip(*self.masters, strict=True)]
            for placed in self.trained:
                pieces = groups[placed.group].span(placed.start, placed.numel)
                yield joined(placed.name, placed.shape, torch.float32, pieces)
        yield from self.others

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every stored tensor by name, read one after the other."""
        return ((tensor.name, tensor.whole()) for tensor in self.stored())


def open_checkpoint(path: Path) -> ZeroCheckpoint:
    """The ZeRO checkpoint in `global_stepN/`, in a `checkpoint-N/` above it, or in their parent.

    Raises UsageError where there is none, DataError where it is not whole, naming the file.
    """
    folder = find_step_folder(path)
    refuse_links(folder)
    try:
        return _open(folder)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise DataError(
            f"{folder}: is not laid out as DeepSpeed does it ({first_line(error)[:160]}); copy the "
            "whole directory again from where it was written."
        ) from None


def _open(folder: Path) -> ZeroCheckpoint:
    files = by_rank(folder, "optim")
    if not files:
        raise DataError(f"{folder}: holds no zero_pp_rank_*_optim_states.pt, so no ZeRO states.")
    states = {file: entry(load(file), OPTIMIZER, dict, file) for file in files}
    stage, world_size = _stage_and_world_size(states[files[0]], files[0])
    refuse_missing_ranks(folder, files, world_size)
    models = _models(folder, stage, world_size)
    first, model = next(iter(models.items()))
    _refuse_mixed_steps(states, models, stage)
    groups = [_shapes(group, first) for group in entry(model, "param_shapes", list, first)]
    masters = [_masters(found, stage, file) for file, found in states.items()]
    place = place_in_ranks if stage == 3 else place_in_groups
    trained = place(groups, masters, states[files[0]].get("param_alignment_paddings"), folder)
    frozen = _shapes(model.get("frozen_param_shapes") or {}, first)
    others = [*_buffers(model, first), *_frozen(frozen, models)]
    unlisted = _unlisted(model, first, {*(placed.name for placed in trained), *frozen}, stage)
    return ZeroCheckpoint(
        folder=folder,
        stage=stage,
        world_size=world_size,
        trained=trained,
        frozen={**frozen, **{tensor.name: tensor.shape for tensor in unlisted}},
        stored_frozen=bool(model.get("frozen_param_fragments") or unlisted),
        shared=dict(model.get("shared_params") or {}),
        masters=masters,
        others=[*others, *unlisted],
    )


def _stage_and_world_size(states: Mapping[str, Any], file: Path) -> tuple[int, int]:
    stage = int(entry(states, "zero_stage", int, file))
    if stage not in MASTERS:
        raise DataError(f"{file}: is of ZeRO stage {stage}; 1, 2 and 3 are known.")
    count = entry(states, "partition_count", (int, list), file)
    return stage, int(max(count) if isinstance(count, list) else count)


def _models(folder: Path, stage: int, world_size: int) -> dict[Path, dict[str, Any]]:
    """What the files of the model say: one a rank in stage 3, else one."""
    if stage != 3:
        return {folder / SHARED_MODEL_FILE: load(folder / SHARED_MODEL_FILE)}
    files = by_rank(folder, "model")
    refuse_missing_ranks(folder, files, world_size)
    return {file: load(file) for file in files}


def _masters(states: Mapping[str, Any], stage: int, file: Path) -> list[Stored]:
    masters = entry(states, MASTERS[stage], list, file)
    if not all(isinstance(flat, torch.Tensor) and flat.is_contiguous() for flat in masters):
        raise DataError(f"{file}: {MASTERS[stage]} holds something else than flat tensors.")
    return [stored(flat, file) for flat in masters]


def _shapes(group: Mapping[str, Any], file: Path) -> dict[str, tuple[int, ...]]:
    shapes = {name: tuple(shape) for name, shape in group.items()}
    for name, shape in shapes.items():
        if any(not isinstance(side, int) or side < 0 for side in shape):
            raise DataError(f"{file}: the shape of {name} is not one that a tensor has.")
    return shapes


def _refuse_mixed_steps(
    states: Mapping[Path, dict[str, Any]], models: Mapping[Path, dict[str, Any]], stage: int
) -> None:
    """DataError where ranks' files are of different steps, naming the odd one out.

    The files of models count the steps, and so does the state that Adam keeps of each group.
    """
    global_steps = {file: found.get("global_steps") for file, found in models.items()}
    _refuse_odd(global_steps, None)
    model = next(iter(models.values()))
    done, skipped = model.get("global_steps"), model.get("skipped_steps") or 0
    expected = done - skipped if isinstance(done, int) else None
    adams = {file: _adam_steps(found.get(BASE_OPTIMIZER[stage]), file)
             for file, found in states.items()}  # fmt: skip
    _refuse_odd(adams, expected)


def _refuse_odd(steps: Mapping[Path, int | None], expected: int | None) -> None:
    """DataError where files are of different steps; the expected one, else the usual, is right."""
    steps = {file: step for file, step in steps.items() if step is not None}
    counts = Counter(steps.values())
    if len(counts) < 2:
        return
    usual = expected if expected in counts else counts.most_common(1)[0][0]
    odd = next(file for file, step in steps.items() if step != usual)
    raise DataError(
        f"{odd}: is of step {steps[odd]}, and the files of other ranks are of step {usual}; two "
        "checkpoints were mixed."
    )


def _adam_steps(optimizer: Any, file: Path) -> int | None:
    """How many steps a rank's optimizer has made; None where it does not count them.

    Torch's Adam keeps the count with each group's averages, DeepSpeed's own beside the settings.
    """
    if not isinstance(optimizer, dict):
        return None
    averages = optimizer.get("state")
    holders = [*averages.values()] if isinstance(averages, dict) else []
    holders += optimizer.get("param_groups") or []
    counts = [holder["step"] for holder in holders
              if isinstance(holder, dict) and "step" in holder]  # fmt: skip
    read = [_number(count, file) for count in counts]
    return max((count for count in read if count is not None), default=None)


def _number(count: Any, file: Path) -> int | None:
    if isinstance(count, torch.Tensor) and count.numel() == 1:
        return int(stored_tensor("step", count, count.dtype, file).whole())
    return int(count) if isinstance(count, int | float) else None


def _buffers(model: Mapping[str, Any], file: Path) -> Iterator[StoredTensor]:
    names = set(model.get("buffer_names") or [])
    for name, tensor in entry(model, "module", dict, file).items():
        if name in names:
            dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
            yield stored_tensor(name, tensor, dtype, file)


def _frozen(
    shapes: Mapping[str, tuple[int, ...]], models: Mapping[Path, dict[str, Any]]
) -> Iterator[StoredTensor]:
    """Frozen parameters where they are stored: whole in stages 1 and 2, cut over the ranks in 3."""
    if not any(model.get("frozen_param_fragments") for model in models.values()):
        return
    fragments = {file: entry(model, "frozen_param_fragments", dict, file)
                 for file, model in models.items()}  # fmt: skip
    for name, shape in shapes.items():
        held = {file: entry(found, name, torch.Tensor, file) for file, found in fragments.items()}
        file, fragment = next(iter(held.items()))
        if tuple(fragment.shape) == shape and len(held) == 1:
            yield stored_tensor(name, fragment, fragment.dtype, file)
        else:
            pieces = [stored(piece, file) for file, piece in held.items()]
            yield joined(name, shape, fragment.dtype, pieces)


def _unlisted(
    model: Mapping[str, Any], file: Path, listed: set[str], stage: int
) -> list[StoredTensor]:
    """Frozen parameters of which there is no list: DeepSpeed makes none in stage 1.

    Its own converter leaves them out. They are among the module's weights.
    """
    if stage == 3:  # the module's weights are empty
        return []
    known = {*listed, *(model.get("buffer_names") or []), *(model.get("shared_params") or {})}
    return [stored_tensor(name, tensor, tensor.dtype, file)
            for name, tensor in model["module"].items()
            if name not in known and isinstance(tensor, torch.Tensor)]  # fmt: skip
