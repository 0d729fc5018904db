"""The search keeps in floating point what INT8 spoils, and nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.exported_for_tests import Exported

from textassay.artifacts.onnx_session import PaddedFeed, open_session, run_batches
from textassay.exporting import int8_search
from textassay.exporting.graphs.graph import Graph
from textassay.exporting.graphs.int8 import Int8, Ranges, measure_ranges, quantizable
from textassay.exporting.int8_search import Search


def search(bert: Exported, folder: Path) -> Search:
    """On 300 random rows whose truth is what floating point says."""
    generator = np.random.default_rng(0)
    rows = [generator.integers(5, 90, size=generator.integers(3, 12)).tolist() for _ in range(300)]
    graph = Graph.load(bert.fused)
    ranges = measure_ranges(graph, rows[:20], folder / "watched.onnx")
    truth = run_batches(open_session(bert.fused), rows, PaddedFeed(0)).argmax(1)
    names = quantizable(graph, ranges)
    return Search(bert.fused, names, ranges, Int8(), rows, truth, 3, 0, folder / "trial.onnx")


def spoiling(monkeypatch: pytest.MonkeyPatch, names: set[str]) -> None:
    """As if INT8 turned these products' weights around."""
    own = int8_search.quantize

    def quantize(graph: Graph, chosen: list[str], ranges: Ranges, how: Int8) -> None:
        for one in list(graph.nodes):
            if one.output[0] in names & set(chosen):
                weight = graph.array(one.input[1])
                assert weight is not None
                graph.add_constant(one.input[1], -weight)
        own(graph, chosen, ranges, how)

    monkeypatch.setattr(int8_search, "quantize", quantize)


def test_all_is_quantised_where_nothing_is_lost(bert: Exported, tmp_path: Path) -> None:
    found = search(bert, tmp_path).run()
    assert found.in_float == []
    assert len(found.in_int8) == 12
    assert found.is_enough


@pytest.mark.parametrize("count", [1, 2])
def test_what_spoils_the_answers_is_found(
    count: int, bert: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = search(bert, tmp_path)
    bad = set(made.names[4 : 4 + count])
    spoiling(monkeypatch, bad)
    found: Any = made.run()
    assert set(found.in_float) == bad
    assert found.is_enough


def test_a_search_without_success_ends(
    bert: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = search(bert, tmp_path)
    spoiling(monkeypatch, set(made.names))
    found = made.run()
    assert not found.is_enough
    assert len(found.in_float) == 4  # 1, 2, 4; 8 would be more than half
