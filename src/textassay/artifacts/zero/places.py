"""Where a parameter lies in the flat tensors that each rank of a ZeRO checkpoint holds."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from textassay.artifacts.zero.files import Stored
from textassay.errors import DataError


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


class Flats:
    """Flat tensors, one behind the other."""

    def __init__(self, flats: Sequence[Stored]) -> None:
        self._flats = flats
        self._starts = list(accumulate((flat.numel for flat in flats), initial=0))

    def span(self, start: int, count: int) -> list[Stored]:
        """The pieces of them that hold `count` numbers from `start` on."""
        pieces = []
        index = bisect_right(self._starts, start) - 1
        while count and index < len(self._flats):
            piece = self._flats[index].cut(start - self._starts[index], count)
            if piece.numel:
                pieces.append(piece)
            start, count, index = start + piece.numel, count - piece.numel, index + 1
        return pieces


def place_in_ranks(
    groups: list[dict[str, tuple[int, ...]]], ranks: list[list[Stored]], _: Any, folder: Path
) -> list[Placed]:
    """Stage 3: each parameter is cut into equal pieces, one a rank, one behind the other."""
    placed, start, world_size = [], 0, len(ranks)
    for group in groups:
        for name, shape in group.items():
            placed.append(Placed(name, shape, 0, start))
            start += math.ceil(math.prod(shape) / world_size)
    for rank, flats in enumerate(ranks):
        held = sum(flat.numel for flat in flats)
        if held != start:
            raise DataError(
                f"{folder}: rank {rank} holds {held:,} elements where the shapes want {start:,}; "
                "its file is of another step or another model."
            )
    return placed


def place_in_groups(
    groups: list[dict[str, tuple[int, ...]]], ranks: list[list[Stored]], paddings: Any,
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
        held = sum(flats[number].numel for flats in ranks)
        if not start <= held < start + 2 * world_size + 1:
            raise DataError(
                f"{folder}: the ranks hold {held:,} elements of group {number} where the shapes "
                f"want {start:,}; a file is of another step or another model."
            )
    return placed
