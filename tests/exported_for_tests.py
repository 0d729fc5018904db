"""Tiny classifiers as ONNX graphs, beside what torch computes."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tests.classifiers_for_tests import FAMILIES, build, ids_of, logits_of, shake
from tests.models_for_tests import TEXTS

from textassay.exporting.graphs.from_torch import export_graph
from textassay.exporting.graphs.fusion import Fused, fuse


class Exported(NamedTuple):
    """A classifier in torch, its graph as exported and as fused, its token ids and logits."""

    built: Any
    plain: Path
    fused: Path
    found: Fused
    ids: list[list[int]]
    logits: np.ndarray


def export(folder: Path, family: str, **model: Any) -> Exported:
    """A classifier of this family whose weights all moved, exported to `folder`."""
    built = build(FAMILIES[family](folder / "base"), **model)
    shake(built.model).eval()
    export_graph(built.model, 1.5, folder / "plain.onnx")
    graph, found = fuse(folder / "plain.onnx")
    graph.save(folder / "fused.onnx")
    return Exported(
        built, folder / "plain.onnx", folder / "fused.onnx", found,
        ids_of(built.tokenizer, TEXTS), logits_of(built),
    )  # fmt: skip
