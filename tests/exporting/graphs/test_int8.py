"""INT8 graphs: near the floating-point ones, and no text's answer depends on its batch mates."""

from pathlib import Path

import numpy as np
import pytest
from tests.exported_for_tests import Exported

from textassay.artifacts.onnx_session import PaddedFeed, open_session, run_batches
from textassay.exporting.graphs import int8
from textassay.exporting.graphs.graph import Graph
from textassay.exporting.graphs.int8 import Int8, Ranges, measure_ranges, quantizable, quantize


@pytest.fixture
def ranges(bert: Exported, tmp_path: Path) -> Ranges:
    return measure_ranges(Graph.load(bert.fused), bert.ids, tmp_path / "watched.onnx")


def quantized(bert: Exported, ranges: Ranges, how: Int8) -> Graph:
    graph = Graph.load(bert.fused)
    quantize(graph, quantizable(graph, ranges), ranges, how)
    return graph


@pytest.mark.parametrize("how", [Int8(), Int8(static=True), Int8(reduce_range=True)])
def test_int8_is_near_floating_point(
    how: Int8, bert: Exported, ranges: Ranges, tmp_path: Path
) -> None:
    graph = quantized(bert, ranges, how)
    graph.save(tmp_path / "int8.onnx")
    found = run_batches(open_session(tmp_path / "int8.onnx"), bert.ids, PaddedFeed(0))
    difference = np.abs(found - bert.logits).max()
    assert 0 < difference < (0.05 if how.static else 0.02)


@pytest.mark.parametrize("how", [Int8(), Int8(static=True)])
def test_an_answer_does_not_depend_on_batch_mates(
    how: Int8, bert: Exported, ranges: Ranges, tmp_path: Path
) -> None:
    quantized(bert, ranges, how).save(tmp_path / "int8.onnx")
    session = open_session(tmp_path / "int8.onnx")
    alone, together = (
        run_batches(session, bert.ids, PaddedFeed(0), size) for size in (1, len(bert.ids))
    )
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_all_products_but_the_head_are_in_bytes(bert: Exported, ranges: Ranges) -> None:
    graph = Graph.load(bert.fused)
    all_products = [one.output[0] for one in int8.products(graph)]
    chosen = quantizable(graph, ranges)
    assert len(chosen) == 12  # two blocks of query, key, value, output and two wide layers
    left = set(all_products) - set(chosen)
    assert len(left) == 2  # pooler and classifier, which see one row a text
    quantize(graph, chosen, ranges, Int8())
    in_bytes = [one for one in graph.nodes if one.op_type == "MatMulIntegerToFloat"]
    assert len(in_bytes) == 12
    assert {one.output[0] for one in int8.products(graph)} == left


def test_a_reduced_range_has_seven_bits(bert: Exported, ranges: Ranges) -> None:
    def largest(how: Int8) -> int:
        graph = quantized(bert, ranges, how)
        weights = [graph.array(one.input[1]) for one in graph.nodes
                   if one.op_type == "MatMulIntegerToFloat"]  # fmt: skip
        return max(int(np.abs(weight.astype(int)).max()) for weight in weights)

    assert largest(Int8()) == 127
    assert largest(Int8(reduce_range=True)) == 63


def test_large_embeddings_are_kept_in_bytes(
    bert: Exported, ranges: Ranges, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "SMALLEST_TABLE", 100)
    graph = Graph.load(bert.fused)
    quantize(graph, [], ranges, Int8())
    tables = [one for one in graph.nodes if one.op_type == "Gather"
              and graph.array(one.input[0]) is not None
              and graph.array(one.input[0]).dtype == np.int8]  # fmt: skip
    assert len(tables) >= 2
    graph.save(tmp_path / "int8.onnx")
    found = run_batches(open_session(tmp_path / "int8.onnx"), bert.ids, PaddedFeed(0))
    assert 0 < np.abs(found - bert.logits).max() < 0.05


def test_smoothing_shares_the_load_of_a_channel_with_large_numbers() -> None:
    """Activation times weights is what it was; the largest numbers come nearer to each other."""
    generator = np.random.default_rng(0)
    states, weight = generator.normal(size=(50, 8)), generator.normal(size=(8, 4))
    states[:, 3] *= 100
    smooth = int8._smoothing(np.abs(states).max(0), [weight])
    np.testing.assert_allclose((states / smooth) @ (weight * smooth[:, None]), states @ weight)
    before, after = (np.abs(x).max(0) for x in (states, states / smooth))
    assert after.max() / after.min() < 0.3 * before.max() / before.min()


def test_a_position_of_zeros_is_no_division_by_zero(
    bert: Exported, ranges: Ranges, tmp_path: Path
) -> None:
    graph = quantized(bert, ranges, Int8())
    scales = [name for name in graph.constants if name.endswith(("Norm.weight", "Norm.bias"))]
    assert len(scales) == 10
    for name in scales:
        graph.add_constant(name, np.zeros(graph.constants[name].dims, np.float32))
    graph.save(tmp_path / "int8.onnx")
    found = run_batches(open_session(tmp_path / "int8.onnx"), bert.ids, PaddedFeed(0))
    assert np.isfinite(found).all()
