"""The exported graph made fast: attention fused, and nothing computed that no one looks at.

Fusing is ONNX Script's work. Two steps are ours (docs/decisions/0010-onnx.md): a classifier that
reads one position of each text needs only that position behind its last attention, and a residual
sum and its normalisation are faster apart than in ONNX Runtime's kernel for both.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textassay.exporting.graphs.graph import RUNTIME, Graph, attribute, node

FUSED_ATTENTION = ("MultiHeadAttention", "GroupQueryAttention")
# What treats every position by itself; of the first one, which inputs have positions.
BY_POSITION = {
    "Add": 2, "BiasGelu": 1, "Gelu": 1, "LayerNormalization": 1, "MatMul": 1, "Sum": 3,
}  # fmt: skip


@dataclass(frozen=True)
class Fused:
    """Fused attentions, and whether only one position is computed behind the last of them."""

    attention: int
    pooled_early: bool


def fuse(source: Path) -> tuple[Graph, Fused]:
    """Read a graph; the faster one, and what was found in it.

    What comes out must be held to the original by whoever asked for it: see `parity.py`.
    """
    import onnx_ir
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    model, _ = optimize_for_ort(onnx_ir.load(source))
    graph = Graph(onnx_ir.to_proto(model))
    graph.tidy()
    split_gemm(graph)
    split_attention(graph)
    split_skip_normalisation(graph)
    pooled = pool_early(graph)
    graph.tidy()
    attention = sum(one.op_type in FUSED_ATTENTION for one in graph.nodes)
    return graph, Fused(attention, pooled)


def split_gemm(graph: Graph) -> None:
    """Each `Gemm` as a product and a sum, which take any number of dimensions.

    ONNX Script takes the reshaping around GPT-2's away and leaves it with three, which it refuses.
    """
    for one in [one for one in graph.nodes if one.op_type == "Gemm"]:
        states, weight, *bias = one.input
        factors = [attribute(one, name, 1.0) for name in ("alpha", "beta")]
        array = graph.array(weight)
        if attribute(one, "transA", 0) or factors != [1.0, 1.0] or array is None:
            continue
        if attribute(one, "transB", 0):
            weight = graph.add_constant(f"{weight}/transposed", array.T)
        name = one.output[0]
        product = f"{name}/product" if bias else name
        parts = [node("MatMul", [states, weight], product)]
        graph.replace(one, parts + [node("Add", [product, *bias], name)] * bool(bias))


def split_attention(graph: Graph) -> None:
    """Each `Attention` as three projections and a `MultiHeadAttention`.

    As fast, and the projections are plain products, which can be cut short or computed in INT8.
    """
    fused = [one for one in graph.nodes if one.op_type == "Attention" and one.domain == RUNTIME]
    for one in fused:
        states, packed, bias, mask, past, added = (*one.input, "", "", "")[:6]
        weights = _three_weights(graph, packed)
        if weights is None or mask or past:
            continue
        name = one.output[0]
        heads = attribute(one, "num_heads")
        projected = [f"{name}/{part}" for part in ("query", "key", "value")]
        graph.replace(
            one,
            [
                *(node("MatMul", [states, weight], value)
                  for weight, value in zip(weights, projected, strict=True)),
                node("MultiHeadAttention", [*projected, bias, "", added], name, domain=RUNTIME,
                     num_heads=heads),
            ],
        )  # fmt: skip


def _three_weights(graph: Graph, packed: str) -> list[str] | None:
    """The names of the three weights that stand side by side in a packed one."""
    maker = graph.maker(packed)
    if maker is not None:
        return list(maker.input) if maker.op_type == "Concat" and len(maker.input) == 3 else None
    array = graph.array(packed)
    if array is None:
        return None
    thirds = np.split(array, 3, axis=1)
    return [graph.add_constant(f"{packed}/{index}", part) for index, part in enumerate(thirds)]


def split_skip_normalisation(graph: Graph) -> None:
    """Each `SkipLayerNormalization` as a sum and a `LayerNormalization`.

    A `Sum`, since ONNX Runtime would put `Add` and `LayerNormalization` together again.
    """
    fused = [one for one in graph.nodes if one.op_type == "SkipLayerNormalization"]
    for one in fused:
        states, skip, scale, shift, *bias = one.input
        name = one.output[0]
        summed = one.output[3] if len(one.output) > 3 and one.output[3] else f"{name}/sum"
        graph.replace(
            one,
            [
                node("Sum", [states, *bias, skip], summed),
                node("LayerNormalization", [summed, scale, shift], name, axis=-1,
                     epsilon=attribute(one, "epsilon", 1e-5)),
            ],
        )  # fmt: skip


def pool_early(graph: Graph) -> bool:
    """Behind the last attention compute only the first position, where only that one is read.

    Nothing else looks at the others: what stands between works on each position by itself, and a
    query of one position gives the attention's first row. False where the graph is otherwise.
    """
    attentions = [one for one in graph.nodes if one.op_type == "MultiHeadAttention"]
    pooled = next((one for one in graph.nodes if _takes_first_position(graph, one)), None)
    if pooled is None or not attentions:
        return False
    last = attentions[-1]
    query = graph.maker(last.input[0])
    if query is None or query.op_type != "MatMul":
        return False
    states = query.input[0]
    behind = graph.nodes[graph.nodes.index(last) + 1 :]
    tail = _tail(graph, pooled.input[0], last.output[0], states)
    if tail is None or any(value in tail for one in behind if one is not pooled
                           for value in one.input if one.output[0] not in tail):  # fmt: skip
        return False
    first = f"{states}/first"
    bounds = [graph.add_constant(f"{first}/{part}", np.array([number]))
              for part, number in (("start", 0), ("end", 1), ("axis", 1))]  # fmt: skip
    for one in (query, *behind):
        if one is query or one.output[0] in tail:
            one.input[:] = [first if value == states else value for value in one.input]
    graph.insert_behind(states, [node("Slice", [states, *bounds], first)])
    if len(last.input) > 5 and last.input[5]:
        _first_row_of_mask(graph, last, bounds)
    return True


def _tail(graph: Graph, value: str, attended: str, states: str) -> set[str] | None:
    """The values between the attention and the pooling; None where one mixes positions."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if value in found or value in (attended, states) or value in graph.constants:
            continue
        maker = graph.maker(value)
        if maker is None or maker.op_type not in BY_POSITION:
            return None
        found.add(value)
        waiting += list(maker.input[: BY_POSITION[maker.op_type]])
    return found


def _first_row_of_mask(graph: Graph, attention: Any, bounds: list[str]) -> None:
    mask = attention.input[5]
    axis = graph.add_constant(f"{mask}/axis", np.array([2]))
    graph.insert_behind(mask, [node("Slice", [mask, *bounds[:2], axis], f"{mask}/first")])
    attention.input[5] = f"{mask}/first"


def _takes_first_position(graph: Graph, one: Any) -> bool:
    """Whether a node picks the first position of every text."""
    if one.op_type != "Gather" or attribute(one, "axis", 0) != 1:
        return False
    index = graph.array(one.input[1])
    return index is not None and index.size == 1 and int(index) == 0
