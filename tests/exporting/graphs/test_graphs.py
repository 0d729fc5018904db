"""Exported and fused graphs compute what torch does, whatever the family, batch and length."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.classifiers_for_tests import ENCODERS, FAMILIES
from tests.exported_for_tests import Exported, export

from textassay.artifacts.onnx_session import PaddedFeed, open_session, run_batches
from textassay.exporting.graphs.fusion import pool_early
from textassay.exporting.graphs.graph import Graph, node


def check(made: Exported) -> None:
    for path in (made.plain, made.fused):
        session, pad = open_session(path), made.built.tokenizer.pad_token_id
        for batch_size in (1, 3, len(made.ids)):
            found = run_batches(session, made.ids, PaddedFeed(pad), batch_size)
            np.testing.assert_allclose(found, made.logits, atol=1e-5)
        ids = np.array([made.ids[0]])
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        (probabilities,) = session.run(["probabilities"], feed)
        scaled = np.exp(made.logits[0] / 1.5)
        np.testing.assert_allclose(probabilities[0], scaled / scaled.sum(), atol=1e-5)


def test_a_graph_computes_what_torch_does(bert: Exported) -> None:
    check(bert)
    assert bert.found.attention == 2
    assert bert.found.pooled_early


def test_batch_and_length_are_free_and_have_their_names(bert: Exported) -> None:
    for value in onnx.load(bert.fused).graph.input:
        sizes = [size.dim_param for size in value.type.tensor_type.shape.dim]
        assert sizes == ["batch", "length"]


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"bert"}))
def test_every_family_computes_what_torch_does(family: str, tmp_path: Path) -> None:
    made = export(tmp_path, family)
    check(made)
    assert made.found.attention == 2
    assert made.found.pooled_early == (family in ENCODERS)


@pytest.mark.slow
def test_a_head_of_several_layers_is_exported_too(tmp_path: Path) -> None:
    check(export(tmp_path, "llama", head="mlp"))


def test_where_all_positions_are_read_none_is_left_out(bert: Exported) -> None:
    """A mean over positions needs them all."""
    graph = Graph.load(bert.plain)
    pooled = next(one for one in graph.nodes if one.op_type == "Gather"
                  and one.input[0].startswith("layer_norm"))  # fmt: skip
    axis = graph.add_constant("axis", np.array([1]))
    graph.replace(
        pooled, [node("ReduceMean", [pooled.input[0], axis], pooled.output[0], keepdims=0)]
    )
    assert not pool_early(graph)


def test_a_value_that_is_read_twice_is_not_cut(bert: Exported) -> None:
    """Somebody else may look at the other positions."""
    graph = Graph.load(bert.plain)
    pooled = next(one for one in graph.nodes if one.op_type == "Gather"
                  and one.input[0].startswith("layer_norm"))  # fmt: skip
    graph.nodes.append(node("Identity", [pooled.input[0]], "everything"))
    assert not pool_early(graph)


def test_nothing_that_is_not_read_is_kept(bert: Exported) -> None:
    graph = Graph.load(bert.fused)
    before = len(graph.nodes), len(graph.constants)
    graph.add_constant("unread", np.zeros(3, np.float32))
    graph.nodes.append(node("Identity", ["unread"], "also unread"))
    graph.tidy()
    assert (len(graph.nodes), len(graph.constants)) == before


def test_numbers_beyond_two_gigabytes_go_into_a_file_beside(
    bert: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a lower limit, since two gigabytes would take a while."""
    monkeypatch.setattr("textassay.exporting.graphs.graph.LARGEST_SINGLE_FILE", 1000)
    graph = Graph.load(bert.fused)
    for _ in range(2):  # what was saved can be saved again
        graph.save(tmp_path / "model.onnx")
        assert (tmp_path / "model.onnx.data").stat().st_size > 10_000
        again = Graph.load(tmp_path / "model.onnx")
        again.save(tmp_path / "model.onnx")
    found = run_batches(open_session(tmp_path / "model.onnx"), bert.ids, PaddedFeed(0))
    np.testing.assert_allclose(found, bert.logits, atol=1e-5)
