"""Graphs of somebody else's: answered rightly, each text alone and in a batch, or refused by name.

Most are built node by node, so that the right logits can be computed by hand; a few are exported
from tiny models by torch's older exporter, as such files on the hub were.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper
from tests.models_for_tests import TEXTS, tiny_bert, tiny_gpt2
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS,
)

from textassay import Classifier
from textassay.artifacts.onnx_foreign import POSITIONS_BEHIND_PAD
from textassay.errors import GateError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "bad", "film"]
NAMES = ("bad", "fine", "good")
ASKED = ["a", "a good film", "", "a bad bad bad bad film", "good"]
FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
FREE = ["batch", "length"]


def folder_for(place: Path, cls_segment: int = 0, **config: Any) -> Path:
    """A folder with config.json and a tokenizer that writes `text [SEP] [CLS]`."""
    place.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A:0 [SEP]:0 [CLS]:{cls_segment}", special_tokens=[("[SEP]", 3), ("[CLS]", 2)]
    )
    tokenizer.save(str(place / "tokenizer.json"))
    told = {"id2label": dict(enumerate(NAMES)), "pad_token_id": 0, **config}
    (place / "config.json").write_text(json.dumps(told))
    return place


def write_graph(
    path: Path,
    inputs: Sequence[tuple[str, int, Any]] = (("input_ids", INT64, FREE),),
    output: tuple[str, int, Any] = ("logits", FLOAT, ["batch", 3]),
) -> Path:
    """A graph whose logits are sums over a text: of its ids, token types and positions.

    Without an input for types or positions it sums its ids instead. The mask is multiplied by.
    """
    asked = [name for name, *_ in inputs]
    nodes = [helper.make_node("Cast", [name], [f"{name}.f"], to=FLOAT) for name in asked]
    for name in ("input_ids", "token_type_ids", "position_ids"):
        source = f"{name if name in asked else asked[0]}.f"
        kept = f"{name}.kept"
        if "attention_mask" in asked:
            nodes.append(helper.make_node("Mul", [source, "attention_mask.f"], [kept]))
        else:
            nodes.append(helper.make_node("Identity", [source], [kept]))
        nodes.append(helper.make_node("ReduceSum", [kept, "axis"], [f"{name}.sum"], keepdims=1))
    sums = [f"{name}.sum" for name in ("input_ids", "token_type_ids", "position_ids")]
    nodes += [
        helper.make_node("Concat", sums, ["all"], axis=1),
        helper.make_node("Unsqueeze", ["all", "axis"], ["one for each token"]),
        helper.make_node(
            "Cast", ["all" if len(output[2]) == 2 else "one for each token"], [output[0]],
            to=output[1],
        ),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "sums",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*output)],
        [numpy_helper.from_array(np.array([1]), "axis")],
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def sums_by_hand(first_position: int = 0, cls_segment: int = 0) -> np.ndarray:
    """What `write_graph` gives for ASKED where it asks for everything."""
    known = {word: index for index, word in enumerate(WORDS)}
    rows = []
    for text in ASKED:
        ids = [*(known[word] for word in text.split()), 3, 2]
        positions = range(first_position, first_position + len(ids))
        rows.append([sum(ids), cls_segment, sum(positions)])
    return np.array(rows, dtype=np.float32)


def answers(folder: Path, texts: Sequence[str] = ASKED) -> np.ndarray:
    """The logits of texts, which must be the same for each alone and for all together."""
    classifier = Classifier.load(folder, device="cpu")
    alone = np.concatenate([classifier.logits([text]) for text in texts])
    np.testing.assert_allclose(classifier.logits(texts), alone, atol=1e-5)
    return alone


def inputs(kind: int, mask: int = INT64, shape: Any = FREE) -> list[tuple[str, int, Any]]:
    return [("input_ids", kind, shape), ("attention_mask", mask, shape),
            ("token_type_ids", kind, shape), ("position_ids", kind, shape)]  # fmt: skip


@pytest.mark.parametrize(
    "asked",
    [
        inputs(INT64),
        inputs(INT32, INT32),
        inputs(INT32, FLOAT),
        inputs(INT64, TensorProto.BOOL),
        inputs(INT64, shape=[1, "length"]),
        [one for one in inputs(INT64) if one[0] != "attention_mask"],
    ],
    ids=["int64", "int32", "float mask", "boolean mask", "one text at a time", "no mask"],
)
@pytest.mark.parametrize("output", [FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_a_graph_is_fed_what_it_asks_for(asked: list, output: int, tmp_path: Path) -> None:
    folder = folder_for(tmp_path, cls_segment=2)
    write_graph(folder / "model.onnx", asked, ("logits", output, ["batch", 3]))
    np.testing.assert_array_equal(answers(folder), sums_by_hand(cls_segment=2))


def test_positions_begin_behind_the_pad_token_where_the_architecture_says_so(
    tmp_path: Path,
) -> None:
    """And texts are cut where they end: RoBERTa with 8 positions and pad 1 reads 6 tokens."""
    told = {"model_type": "roberta", "pad_token_id": 1, "max_position_embeddings": 8}
    folder = folder_for(tmp_path, **told)
    write_graph(folder / "model.onnx", inputs(INT64))
    classifier = Classifier.load(folder, device="cpu")
    assert classifier.max_length == 6
    np.testing.assert_array_equal(classifier.logits(ASKED[:2]), sums_by_hand(first_position=2)[:2])


def test_the_architectures_with_such_positions_are_the_library_s() -> None:
    library = Path(transformers.__file__).parent / "models"
    named = set()
    for model_type in CLASSIFIERS:
        module = transformers.models.auto.configuration_auto.model_type_to_module_name(model_type)
        file = library / module / f"modeling_{module}.py"
        if file.is_file() and "create_position_ids_from_input_ids" in file.read_text():
            named.add(model_type)
    assert named - {"data2vec-text"} <= POSITIONS_BEHIND_PAD
    assert len(named) > 10


def test_token_types_that_the_tokenizer_does_not_give_are_zeros(tmp_path: Path) -> None:
    folder = folder_for(tmp_path, cls_segment=1)
    (folder / "tokenizer_config.json").write_text('{"model_input_names": ["input_ids"]}')
    write_graph(folder / "model.onnx", inputs(INT64))
    np.testing.assert_array_equal(answers(folder), sums_by_hand())


@pytest.mark.parametrize(("side", "kept"), [("left", [7, 7, 3, 2]), ("right", [4, 5, 3, 2])])
def test_a_long_text_loses_the_end_that_the_tokenizer_says(
    side: str, kept: list[int], tmp_path: Path
) -> None:
    """The limit is written as text, as some programs do."""
    folder = folder_for(tmp_path)
    settings = {"truncation_side": side, "model_max_length": "4"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    write_graph(folder / "model.onnx")
    found = answers(folder, ["a good bad film film", "good"])
    assert found[:, 0].tolist() == [sum(kept), 5 + 3 + 2]


@pytest.mark.parametrize("file", ["model.onnx", "model_quantized.onnx"])
def test_a_graph_below_its_config_is_found(file: str, tmp_path: Path) -> None:
    folder = folder_for(tmp_path)
    write_graph(folder / "onnx" / file, inputs(INT64))
    np.testing.assert_array_equal(answers(folder), sums_by_hand())


def test_labels_without_names_have_the_library_s(tmp_path: Path) -> None:
    folder = folder_for(tmp_path, id2label=None, num_labels=3)
    write_graph(folder / "model.onnx")
    assert Classifier.load(folder, device="cpu").labels == ["LABEL_0", "LABEL_1", "LABEL_2"]


def build(folder: Path, **changes: Any) -> None:
    """A graph in `folder`, with what `changes` say."""
    asked = [("input_ids", INT64, FREE), *changes.get("more", [])]
    write_graph(folder / "model.onnx", changes.get("inputs", asked),
                changes.get("output", ("logits", FLOAT, ["batch", 3])))  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "config", "said"),
    [
        ({"more": [("past_key_values.0.key", FLOAT, FREE)]}, {}, "past_key_values.0.key"),
        ({"inputs": [("input_word_ids", INT64, FREE)]}, {}, "input_word_ids"),
        ({"inputs": [("attention_mask", INT64, FREE)]}, {}, "no input called input_ids"),
        ({"inputs": [("input_ids", FLOAT, FREE)]}, {}, "input_ids as tensor"),
        ({"inputs": [("input_ids", INT64, [1, 128])]}, {}, r"input_ids has the fixed shape \[1"),
        ({"inputs": [("input_ids", INT64, [8, "n"])]}, {}, "input_ids has the fixed shape"),
        ({"output": ("scores", FLOAT, ["batch", 3])}, {}, r"no output called logits \(its out"),
        ({"output": ("logits", FLOAT, ["a", "b", 3])}, {}, r"logits of shape .*, 3\], where"),
        ({"output": ("logits", INT64, ["a", 3])}, {}, r"logits as tensor\(int64\)"),
        ({"output": ("logits", FLOAT, ["batch", "n"])}, {"id2label": {0: "a", 1: "b"}}, "3 logits"),
        ({}, {"id2label": {0: "a", 1: "b"}}, "gives 3 logits a text"),
        ({}, {"id2label": {0: "a", 2: "b"}}, "the keys of id2label"),
        ({}, {"problem_type": "multi_label_classification"}, "multi_label_classification"),
        ({}, {"id2label": {0: "a"}}, "names one label"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_by_name(
    changes: dict, config: dict, said: str, tmp_path: Path
) -> None:
    folder = folder_for(tmp_path, **config)
    build(folder, **changes)
    with pytest.raises(GateError, match=said) as refused:
        Classifier.load(folder, device="cpu")
    assert len(str(refused.value)) < 600 + len(str(tmp_path))


def test_missing_numbers_are_named(tmp_path: Path) -> None:
    """A large model keeps them in a file beside the graph, which is easily left behind."""
    folder = folder_for(tmp_path)
    graph = onnx.load(write_graph(folder / "model.onnx"))
    graph.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "zeros"))
    graph.graph.node[-1].input[0] = "shifted"
    graph.graph.node.insert(-1, helper.make_node("Add", ["all", "zeros"], ["shifted"]))
    onnx.external_data_helper.set_external_data(graph.graph.initializer[-1], "model.onnx.data")
    onnx.save(graph, folder / "model.onnx")
    assert answers(folder).shape == (len(ASKED), 3)
    (folder / "model.onnx.data").unlink()
    with pytest.raises(GateError, match=r"model\.onnx\.data"):
        Classifier.load(folder, device="cpu")


def test_a_text_that_the_graph_cannot_compute_is_no_traceback(tmp_path: Path) -> None:
    """Here the rows of a batch are added to constants for three tokens."""
    folder = folder_for(tmp_path)
    graph = onnx.load(write_graph(folder / "model.onnx"))
    graph.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 3), np.float32), "three"))
    graph.graph.node[0].output[0] = "whole"
    graph.graph.node.insert(1, helper.make_node("Add", ["whole", "three"], ["input_ids.f"]))
    onnx.save(graph, folder / "model.onnx")
    classifier = Classifier.load(folder, device="cpu")
    with pytest.raises(GateError, match=r"model\.onnx: .* cannot compute 1 text of up to 8 tokens"):
        classifier.logits(["a bad bad bad bad film"])


def export_plainly(folder: Path, model: Any, names: Sequence[str], dtype: torch.dtype) -> None:
    """As strangers did it: torch's older exporter, inputs in this order and of this type."""

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model.eval()

        def forward(self, *given: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(**dict(zip(names, given, strict=True))).logits
            return logits

    ids = torch.randint(5, 40, (2, 7))
    known = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
        "position_ids": torch.arange(7).repeat(2, 1),
    }
    axes = {name: {0: "batch", 1: "length"} for name in names} | {"logits": {0: "batch"}}
    torch.onnx.export(
        Logits(), tuple(known[name].to(dtype) for name in names), str(folder / "model.onnx"),
        input_names=list(names), output_names=["logits"], dynamic_axes=axes, opset_version=17,
        dynamo=False,
    )  # fmt: skip
    model.config.save_pretrained(folder)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "names", "dtype"),
    [
        (tiny_bert, ("input_ids", "attention_mask", "token_type_ids"), torch.int32),
        (tiny_gpt2, ("input_ids", "attention_mask", "position_ids"), torch.int64),
    ],
    ids=["BERT in int32", "GPT-2 with positions"],
)
def test_an_exported_model_answers_as_transformers_does(
    make: Callable[..., Path], names: tuple[str, ...], dtype: torch.dtype, tmp_path: Path
) -> None:
    """Also a decoder whose graph looks for the last token by a pad id that stands nowhere."""
    base = make(tmp_path / "base")
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=3, attn_implementation="eager"
    )
    model.config.pad_token_id = None if make is tiny_gpt2 else 0
    folder = tmp_path / "theirs"
    folder.mkdir()
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    tokenizer.save_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
        wanted = [model(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in TEXTS]
    model.config.pad_token_id = model.config.pad_token_id or 17
    export_plainly(folder, model, names, dtype)
    np.testing.assert_allclose(answers(folder, TEXTS), wanted, atol=1e-5)
