"""An ONNX graph that can be changed: who makes a value, who reads it, nodes in their order."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from textassay.artifacts.onnx_files import DATA_SUFFIX
from textassay.files import parse_json

# ONNX Runtime's own operators.
RUNTIME = "com.microsoft"
# Above this the numbers go into a file of their own: Protocol Buffers end at 2 GB.
LARGEST_SINGLE_FILE = 1_800_000_000


class Graph:
    """The nodes and constants of an ONNX model. Changes are made in place; `save` writes them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self.constants = {one.name: one for one in model.graph.initializer}
        # Shapes that were inferred once would contradict what is changed.
        del model.graph.value_info[:]

    @classmethod
    def load(cls, path: Path) -> "Graph":
        """Read a file, and the numbers beside it."""
        return cls(onnx.load(path))

    def maker(self, value: str) -> Any | None:
        """The node that makes a value; None for inputs and constants."""
        return next((node for node in self.nodes if value in node.output), None)

    def readers(self, value: str) -> list[Any]:
        """The nodes that read a value."""
        return [node for node in self.nodes if value in node.input]

    def array(self, name: str) -> np.ndarray | None:
        """A constant's numbers, or None for what is no constant."""
        constant = self.constants.get(name)
        return None if constant is None else numpy_helper.to_array(constant)

    def add_constant(self, name: str, array: Any) -> str:
        """Keep an array under a name, which is returned."""
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def replace(self, node: Any, nodes: Sequence[Any]) -> None:
        """Put other nodes where one was."""
        place = self.nodes.index(node)
        self.nodes[place : place + 1] = nodes

    def insert_behind(self, value: str, nodes: Sequence[Any]) -> None:
        """Put nodes behind the one that makes a value, or first, if it is an input."""
        maker = self.maker(value)
        place = self.nodes.index(maker) + 1 if maker is not None else 0
        self.nodes[place:place] = nodes

    def outputs(self) -> list[str]:
        """What the graph gives."""
        return [output.name for output in self.model.graph.output]

    def tidy(self) -> None:
        """Take out what nothing reads: nodes, constants, and optional outputs."""
        while True:
            read = {value for node in self.nodes for value in node.input} | set(self.outputs())
            kept = [node for node in self.nodes if read & set(node.output)]
            if len(kept) == len(self.nodes):
                break
            self.nodes = kept
        for node in self.nodes:
            outputs = [name if name in read else "" for name in node.output]
            while not outputs[-1]:
                outputs.pop()
            del node.output[:]
            node.output.extend(outputs)
        self.constants = {name: one for name, one in self.constants.items() if name in read}

    def proto(self) -> onnx.ModelProto:
        """The model as it is now."""
        graph = self.model.graph
        del graph.node[:], graph.initializer[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.constants.values())
        return self.model

    def description(self, key: str) -> dict[str, Any]:
        """The facts in the file's metadata."""
        told = next(one.value for one in self.model.metadata_props if one.key == key)
        facts: dict[str, Any] = parse_json(told)
        return facts

    def describe(self, key: str, facts: dict[str, Any]) -> None:
        """Let the file's metadata say these facts and nothing else."""
        del self.model.metadata_props[:]
        self.model.metadata_props.add(key=key, value=json.dumps(facts, ensure_ascii=False))

    def save(self, path: Path) -> None:
        """Write the model; very large ones with their numbers in a file beside."""
        model = self.proto()
        size = sum(len(one.raw_data) for one in model.graph.initializer)
        if size < LARGEST_SINGLE_FILE:
            onnx.save(model, path)
            return
        copy = onnx.ModelProto()
        copy.CopyFrom(model)  # saving takes the numbers out of what is saved
        onnx.save(
            copy, path, save_as_external_data=True, location=f"{path.name}{DATA_SUFFIX}",
            all_tensors_to_one_file=True,
        )  # fmt: skip


def node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
    """A node with one output, which also names it."""
    return helper.make_node(kind, list(inputs), [output], name=f"{output}/{kind}", **attributes)


def attribute(one: Any, name: str, default: Any = None) -> Any:
    """A node's attribute."""
    found = [entry for entry in one.attribute if entry.name == name]
    return helper.get_attribute_value(found[0]) if found else default
