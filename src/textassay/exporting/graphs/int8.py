"""An ONNX graph in INT8: products of bytes, with a scale for every position of every text.

ONNX Runtime's own quantizer gives all positions of a batch one scale. A few large numbers then
leave no steps for all others, and what a text is answered depends on its batch mates. Here

- each channel of an activation is divided by a factor that the weights take over, which evens out
  channels with large numbers (SmoothQuant: Xiao et al. 2022, equation 4, with alpha 0.5);
- each position has its own scale, its largest number (dynamic), or all have one that was measured
  on training rows (static);
- weights have a scale for each output channel, embeddings one for each token.

The products themselves are ONNX Runtime's. What it costs and gains: docs/decisions/0010-onnx.md.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from textassay.artifacts.onnx_session import open_session
from textassay.exporting.graphs.graph import RUNTIME, Graph, node

ALPHA = 0.5
SMALLEST = 1e-5
# Activations are unsigned bytes around 128: signed ones are slow on most CPUs.
ZERO = np.array(128, dtype=np.uint8)
STEPS = 127
# Two products of 8 by 8 bits do not fit into the 16 bits in which CPUs without VNNI add them.
STEPS_REDUCED = 63
# Smaller tables are not worth it.
SMALLEST_TABLE = 1_000_000


@dataclass(frozen=True)
class Int8:
    """How to quantise: `static` scales, `reduce_range` for CPUs without VNNI."""

    static: bool = False
    reduce_range: bool = False


@dataclass
class Ranges:
    """The largest absolute number of each channel, [channels], of each product's input.

    `single` are inputs with one row a text, which a head reads: products of those stay as they are.
    """

    largest: dict[str, np.ndarray] = field(default_factory=dict)
    single: set[str] = field(default_factory=set)


def products(graph: Graph) -> list[Any]:
    """The products of an activation with constant weights [inputs, outputs]."""
    return [
        one for one in graph.nodes
        if one.op_type == "MatMul" and one.input[1] in graph.constants
        and len(graph.constants[one.input[1]].dims) == 2
        and one.input[0] not in graph.constants
    ]  # fmt: skip


def measure_ranges(graph: Graph, rows: Iterable[Sequence[int]], scratch: Path) -> Ranges:
    """Run token ids one text at a time and note the inputs of all products.

    `scratch` is a path where the graph may be written for it.
    """
    values = sorted({one.input[0] for one in products(graph)})
    watched = Graph(type(graph.model).FromString(graph.proto().SerializeToString()))
    known = set(watched.outputs())
    watched.model.graph.output.extend(_output(value) for value in values if value not in known)
    watched.save(scratch)
    session = open_session(scratch)
    ranges = Ranges()
    for ids in rows:
        feed = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
        for value, found in zip(values, session.run(values, feed), strict=True):
            if found.ndim < 3:
                ranges.single.add(value)
                continue
            largest = np.abs(found).reshape(-1, found.shape[-1]).max(0)
            ranges.largest[value] = np.maximum(ranges.largest.get(value, 0.0), largest)
    return ranges


def _output(value: str) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(value, TensorProto.FLOAT, None)


def quantizable(graph: Graph, ranges: Ranges) -> list[str]:
    """The products that can be computed in INT8, by the names of what they give."""
    return [one.output[0] for one in products(graph) if one.input[0] in ranges.largest
            and one.input[0] not in ranges.single]  # fmt: skip


def quantize(graph: Graph, names: Iterable[str], ranges: Ranges, how: Int8) -> None:
    """Compute the named products in INT8, and keep large embeddings in bytes."""
    wanted = set(names)
    chosen = [one for one in products(graph) if one.output[0] in wanted]
    for value in dict.fromkeys(one.input[0] for one in chosen):
        readers = [one for one in chosen if one.input[0] == value]
        _quantize_readers(graph, value, readers, ranges.largest[value], how)
    _quantize_embeddings(graph)
    graph.tidy()


def _quantize_readers(
    graph: Graph, value: str, readers: list[Any], largest: np.ndarray, how: Int8
) -> None:
    """All products of one activation: it is brought into bytes once."""
    weights = [np.asarray(graph.array(one.input[1])) for one in readers]
    smooth = _smoothing(largest, weights)
    scale, row_scale = _to_bytes(graph, value, largest, smooth, how)
    steps = STEPS_REDUCED if how.reduce_range else STEPS
    for one, weight in zip(readers, weights, strict=True):
        name = one.output[0]
        in_bytes, per_channel = _weight_in_bytes(weight * smooth[:, None], steps)
        inputs = [
            f"{value}/bytes", graph.add_constant(f"{name}/bytes", in_bytes), scale,
            graph.add_constant(f"{name}/scale", per_channel), _zero(graph),
        ]  # fmt: skip
        product = name if row_scale is None else f"{name}/unscaled"
        parts = [node("MatMulIntegerToFloat", inputs, product, domain=RUNTIME)]
        if row_scale is not None:
            parts.append(node("Mul", [product, row_scale], name))
        graph.replace(one, parts)


def _to_bytes(
    graph: Graph, value: str, largest: np.ndarray, smooth: np.ndarray, how: Int8
) -> tuple[str, str | None]:
    """Add the nodes that give `value/bytes`; the names of its scale and the positions' scales."""
    even = f"{value}/even"
    parts = [node("Mul", [value, graph.add_constant(f"{value}/smooth", 1 / smooth)], even)]
    if how.static:
        scale = graph.add_constant(
            f"{value}/scale", np.array((largest / smooth).max() / STEPS, dtype=np.float32)
        )
        rows, source = None, even
    else:
        scale = graph.add_constant("int8/step", np.array(1 / STEPS, dtype=np.float32))
        last = graph.add_constant("int8/last axis", np.array([-1]))
        least = graph.add_constant("int8/least", np.array(SMALLEST, dtype=np.float32))
        rows, source = f"{value}/rows", f"{value}/relative"
        parts += [
            node("Abs", [even], f"{value}/absolute"),
            node("ReduceMax", [f"{value}/absolute", last], f"{value}/largest", keepdims=1),
            node("Max", [f"{value}/largest", least], rows),
            node("Div", [even, rows], source),
        ]
    parts.append(node("QuantizeLinear", [source, scale, _zero(graph)], f"{value}/bytes"))
    graph.insert_behind(value, parts)
    return scale, rows


def _zero(graph: Graph) -> str:
    return graph.add_constant("int8/zero", ZERO)


def _smoothing(largest: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """A factor for each channel, [channels], with mean 1."""
    by_weight = np.max([np.abs(weight).max(1) for weight in weights], axis=0)
    factors = (np.maximum(largest, SMALLEST) / np.maximum(by_weight, SMALLEST)) ** ALPHA
    smooth: np.ndarray = (factors / factors.mean()).astype(np.float32)
    return np.maximum(smooth, SMALLEST)


def _weight_in_bytes(weight: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Bytes [inputs, outputs], and a scale for each output, [outputs]."""
    scale = np.maximum(np.abs(weight).max(0), SMALLEST**2) / steps
    return np.round(weight / scale).astype(np.int8), scale.astype(np.float32)


def _quantize_embeddings(graph: Graph) -> None:
    """Large tables in bytes, with a scale for each of their rows."""
    for one in [one for one in graph.nodes if one.op_type == "Gather"]:
        table = graph.array(one.input[0])
        if table is None or table.ndim != 2 or table.size < SMALLEST_TABLE:
            continue
        name, key = one.input[0], one.output[0]
        in_bytes, scale = _weight_in_bytes(table.T, STEPS)
        graph.add_constant(f"{name}/bytes", in_bytes.T)
        graph.add_constant(f"{name}/scale", scale[:, None])
        graph.replace(
            one,
            [
                node("Gather", [f"{name}/bytes", one.input[1]], f"{key}/bytes"),
                node("Cast", [f"{key}/bytes"], f"{key}/numbers", to=1),
                node("Gather", [f"{name}/scale", one.input[1]], f"{key}/scale"),
                node("Mul", [f"{key}/numbers", f"{key}/scale"], key),
            ],
        )
