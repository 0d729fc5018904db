"""Other people's classifiers by name, and the commands that are tried with them."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import Result
from tests.artifacts.test_foreign import ANSWERED, REFUSED
from tests.artifacts.test_onnx_foreign import (
    ASKED,
    INT32,
    INT64,
    folder_for,
    inputs,
    sums_by_hand,
    write_graph,
)
from tests.commands_for_tests import paragraph
from tests.foreign_artifacts_for_tests import (
    TEXTS,
    Made,
    adapter,
)

from textassay.artifacts.classifier import Classifier

NO_ANSWER = 3


def onnx(below: str = ".", kind: int = INT64, **config: Any) -> Callable[[Path], Made]:
    """A graph that asks for everything, token types and positions too; its sums are its logits."""

    def make(folder: Path) -> Made:
        folder_for(folder, 2, **config)
        write_graph(folder / below / "model.onnx", inputs(kind, kind))
        return Made(folder, (sums_by_hand(cls_segment=2)).tolist())

    return make


def onnx_of_several_labels(folder: Path) -> Made:
    folder_for(folder, problem_type="multi_label_classification")
    write_graph(folder / "model.onnx")
    return Made(folder, None)


ONNX: dict[str, Callable[[Path], Made]] = {
    "onnx, int32": onnx(kind=INT32),
    "onnx, positions": onnx(),
    "onnx below its config": onnx(below="onnx"),
    "onnx, default labels": onnx(id2label=None, num_labels=3),
}
OPEN = {**ANSWERED, **ONNX}
SHUT = {**REFUSED, "onnx, several labels": (onnx_of_several_labels, "several labels")}


NEWTOK = adapter(added=["NEWTOK"], save_embedding_layers=False)


def make_each_once(root: Path) -> Callable[[str], Made]:
    """Return a function that makes an artifact of OPEN or SHUT in `root` when it is first named."""

    @cache
    def make(name: str) -> Made:
        maker = OPEN.get(name) or SHUT[name][0]
        return maker(root / f"{len(list(root.iterdir()))}")

    return make


def asked(name: str) -> list[str]:
    """The texts whose logits are known."""
    return ASKED if name in ONNX else TEXTS


def probabilities(logits: Any) -> np.ndarray:
    """What a classifier with one label a text says."""
    high = np.exp(np.array(logits) - np.max(logits, axis=1, keepdims=True))
    shares: np.ndarray = high / high.sum(axis=1, keepdims=True)
    return shares


def write_rows(texts: list[str], made: Made) -> Path:
    """Texts with labels that the classifier knows, as a file."""
    labels = Classifier.load(made.folder, device="cpu").labels
    rows = ({"text": text, "label": labels[n % len(labels)]} for n, text in enumerate(texts))
    path = Path("rows.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def shares_in(lines: str) -> list[list[float]]:
    return [list(json.loads(line)["probabilities"].values()) for line in lines.splitlines()]


def assert_refused(result: Result, *causes: str) -> None:
    """An error of one paragraph behind what was said on the way; exit code 2 or 3."""
    said = paragraph(result.stderr[result.stderr.index("error: ") :])
    assert result.exit_code in (2, NO_ANSWER), result.output
    assert any(cause in said for cause in causes), said


DOORS: dict[str, Callable[[Path], list[Any]]] = {
    "predict": lambda it: [it, "--text", "a good film"],
    "predict a file": lambda it: [it, "--input", "rows.csv", "--output", "answers.csv"],
    "evaluate": lambda it: [it, "--data_path", "rows.csv", "--output_dir", "tested"],
    "compare": lambda it: [it, it, "--data_path", "rows.csv"],
    "serve": lambda it: [it, "--port", "0"],
    "export to merged": lambda it: [it, "--to", "merged", "--data_path", "rows.csv"],
    "export to onnx": lambda it: [it, "--to", "onnx", "--data_path", "rows.csv"],
    "export to onnx-int8": lambda it: [it, "--to", "onnx-int8", "--data_path", "rows.csv"],
    "doctor": lambda it: [it],
}
