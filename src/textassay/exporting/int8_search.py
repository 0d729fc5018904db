"""Which products stay in floating point: found on other rows than those that judge."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textassay.artifacts.onnx_session import PaddedFeed, open_session, run_batches
from textassay.console import say
from textassay.exporting.graphs.graph import Graph
from textassay.exporting.graphs.int8 import Int8, Ranges, quantize
from textassay.exporting.loss_bound import Changes
from textassay.exporting.verdict import LOSS_ALLOWED

# Rows for ranking products by what each alone changes; ranking needs few.
RANKING_ROWS = 128


@dataclass(frozen=True)
class Found:
    """The products in INT8 and those kept in floating point, and what changes on these rows."""

    in_int8: list[str]
    in_float: list[str]
    other_labels: int
    likely_worst: float

    @property
    def is_enough(self) -> bool:
        """Whether it will likely pass. These rows only choose, so a rough bound will do."""
        return self.likely_worst <= LOSS_ALLOWED


@dataclass(frozen=True)
class Search:
    """A graph in floating point, what can be quantised in it, and labelled rows to try it on.

    `truth` are label ids, of `labels` labels.
    """

    source: Path
    names: list[str]
    ranges: Ranges
    how: Int8
    rows: list[list[int]]
    truth: np.ndarray
    labels: int
    pad_id: int
    scratch: Path

    def run(self) -> Found:
        """All in INT8 if that loses little enough, else the most sensitive kept in floating point.

        1, 2, 4, … of them are kept until it does, or half of them are kept.
        """
        wanted = self._answer(self.source, self.rows)
        found = self._try([], wanted)
        if found.is_enough:
            return found
        say(f"int8       {found.other_labels} of {len(self.rows)} training rows change "
            "their label: looking for the layers to keep in floating point")  # fmt: skip
        ranked = self._by_sensitivity(wanted)
        kept = 1
        while not found.is_enough and kept <= len(self.names) // 2:
            found = self._try(ranked[:kept], wanted)
            kept *= 2
        return found

    def _try(self, in_float: list[str], wanted: np.ndarray) -> Found:
        in_int8 = [name for name in self.names if name not in in_float]
        after = self._answer_with(in_int8, self.rows).argmax(1)
        changes = Changes.of(self.truth, wanted.argmax(1), after, self.labels)
        return Found(in_int8, in_float, int(changes.counts.sum()), changes.likely_worst)

    def _by_sensitivity(self, wanted: np.ndarray) -> list[str]:
        """The products, those first whose quantisation alone moves the logits most."""
        rows, before = self.rows[:RANKING_ROWS], wanted[:RANKING_ROWS]
        moved = {
            name: float(np.abs(self._answer_with([name], rows) - before).mean())
            for name in self.names
        }
        return sorted(moved, key=lambda name: -moved[name])

    def _answer_with(self, in_int8: list[str], rows: Sequence[Sequence[int]]) -> np.ndarray:
        graph = Graph.load(self.source)
        quantize(graph, in_int8, self.ranges, self.how)
        graph.save(self.scratch)
        return self._answer(self.scratch, rows)

    def _answer(self, graph: Path, rows: Sequence[Sequence[int]]) -> np.ndarray:
        return run_batches(open_session(graph), rows, PaddedFeed(self.pad_id))
