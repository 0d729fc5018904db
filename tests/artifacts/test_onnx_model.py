"""ONNX artifacts in memory: without torch, strict about what lies together, others' too."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.models_for_tests import TEXTS, tiny_bert

import textassay
from textassay.artifacts import hallmark
from textassay.artifacts.hallmark import stamp, verify
from textassay.artifacts.kinds import load_artifact
from textassay.artifacts.onnx_files import ONNX_FILE
from textassay.artifacts.onnx_model import METADATA, OnnxModel
from textassay.errors import GateError
from textassay.files import read_json, sha256_file, write_json

LABELS = ["bad", "fine", "good"]


def make(folder: Path, told: bool = True, file: str = ONNX_FILE) -> Path:
    """An artifact whose logits are the text's length, its first token, and 1."""
    tiny_bert(folder)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    config = {"id2label": dict(enumerate(LABELS)), "pad_token_id": 0, "model_type": "bert"}
    write_json(folder / "config.json", config)
    sizes = ["batch", "length"]
    inputs = [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, sizes)
              for name in ("input_ids", "attention_mask", "token_type_ids")]  # fmt: skip
    nodes = [
        helper.make_node("ReduceSum", ["attention_mask", "one"], ["length"], keepdims=1),
        helper.make_node("Slice", ["input_ids", "zero", "one", "one"], ["first"]),
        helper.make_node("Div", ["length", "length"], ["always"]),
        helper.make_node("Concat", ["length", "first", "always"], ["all"], axis=1),
        helper.make_node("Cast", ["all"], ["logits"], to=onnx.TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes, "graph", inputs[: 2 if told else 3],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 3])],
        [onnx.numpy_helper.from_array(np.array([value]), name)
         for name, value in (("zero", 0), ("one", 1))],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if told:
        facts = {
            "labels": LABELS, "max_length": 8, "pad_token_id": 0, "prompt": None,
            "temperature": 2.0, "tokenizer": sha256_file(folder / "tokenizer.json"), "base": {},
            "quantization": {"mode": "dynamic"} if file != ONNX_FILE else None,
        }  # fmt: skip
        model.metadata_props.add(key=METADATA, value=json.dumps(facts))
    onnx.save(model, folder / file)
    return folder


def test_logits_are_those_of_each_text_in_their_order(tmp_path: Path) -> None:
    model = OnnxModel(make(tmp_path))
    ids = model.ids(["", "good", "a good good good good good good good good film"])
    assert [len(row) for row in ids] == [2, 3, 8]
    for batch_size in (1, 2, None):
        found = model.logits(ids, batch_size)
        np.testing.assert_array_equal(found, [[len(row), row[0], 1] for row in ids])


def test_nothing_of_torch_is_imported(tmp_path: Path) -> None:
    folder = make(tmp_path)
    code = (
        "import sys; from textassay import Classifier\n"
        f"c = Classifier.load({str(folder)!r}); c.predict('good')\n"
        "print([name for name in ('torch', 'transformers', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_somebody_elses_file_is_read_with_what_lies_beside(tmp_path: Path) -> None:
    """As Optimum leaves it: labels in config.json, token types as a third input."""
    classifier = textassay.Classifier.load(make(tmp_path, told=False))
    assert classifier.labels == LABELS
    assert (classifier.temperature, classifier.max_length) == (1.0, 64)
    assert classifier.logits(["good"]).shape == (1, 3)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (
            "config.json",
            '{"id2label": {"0": "good", "1": "fine", "2": "bad"}}',
            "labels were swapped",
        ),
        ("config.json", '{"id2label": {"0": "bad", "2": "good"}}', "the keys of id2label are"),
        ("tokenizer.json", "{}", "is not the tokenizer that"),
        ("tokenizer.json", None, "is missing"),
        ("model.onnx", "no graph", "is no ONNX file that can be run"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    file: str, content: str | None, said: str, tmp_path: Path
) -> None:
    make(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    with pytest.raises(GateError, match=said):
        OnnxModel(tmp_path)


def test_on_another_kind_of_cpu_int8_is_held_to_its_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path, file="model_quantized.onnx")
    stamp(folder, load_artifact(folder), list(TEXTS), {}, {}, {}, {})
    assert "within 0.0e+00" in verify(folder)
    content = read_json(folder / "hallmark.json")
    content["probe"]["logits"] = [[a + 0.1, b, c] for a, b, c in content["probe"]["logits"]]
    write_json(folder / "hallmark.json", content)
    with pytest.raises(GateError, match=r"differ by 0\.1"):
        verify(folder)
    monkeypatch.setattr(hallmark, "int8_flags", lambda: ["another"])
    assert "with the same labels" in verify(folder)
    content["probe"]["logits"] = [[0, 0, 100.0] for _ in TEXTS]
    write_json(folder / "hallmark.json", content)
    with pytest.raises(GateError, match="differ by"):
        verify(folder)
