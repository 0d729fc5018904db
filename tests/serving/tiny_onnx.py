"""A real ONNX classifier in milliseconds: a bag of words, built node by node, without torch."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

WORDS = ["[PAD]", "[UNK]", "a", "good", "bad", "film", "dull", "funny", "warm", "long", "the",
         "was", "not", "very", "这", "部", "很", "好"]  # fmt: skip
LABELS = ("negative", "neutral", "positive")
MAX_LENGTH = 64


def tiny_onnx(folder: Path, seed: int = 0, labels: Sequence[str] = LABELS) -> Path:
    """Write model.onnx, config.json and tokenizer.json. Another seed answers otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_graph(np.random.default_rng(seed), len(labels)), folder / "model.onnx")
    config = {"id2label": dict(enumerate(labels)), "pad_token_id": 0,
              "max_position_embeddings": MAX_LENGTH}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _graph(random: np.random.Generator, labels: int) -> onnx.ModelProto:
    """The mean of a text's word vectors, times a matrix: padding is masked out."""
    weights = {
        "words": random.normal(size=(len(WORDS), 8)).astype(np.float32),
        "head": random.normal(size=(8, labels)).astype(np.float32),
        "axis": np.array([1], dtype=np.int64),
        "last": np.array([2], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["vectors", "mask3"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "axis"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "axis"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "head"], ["logits"]),
    ]
    ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "length"])
           for name in ("input_ids", "attention_mask")]  # fmt: skip
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", labels])
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "bag_of_words", ids, [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model
