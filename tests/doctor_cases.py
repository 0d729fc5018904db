"""Ways to break a directory with a model, and what the doctor must say of each."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file

Change = Callable[[Path], object]
WEIGHTS, ADAPTER = "model.safetensors", "adapter_model.safetensors"
CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
INDEX = "model.safetensors.index.json"
TWO = {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}


class Case(NamedTuple):
    """A healthy directory, what is done to it, and a part of the one finding."""

    name: str
    whole: str
    change: Change
    says: str


def edit(name: str, **changes: Any) -> Change:
    """Other values in a JSON file; None takes a key out."""

    def change(folder: Path) -> None:
        content = {**json.loads((folder / name).read_text()), **changes}
        kept = {key: value for key, value in content.items() if value is not None}
        (folder / name).write_text(json.dumps(kept))

    return change


def tensors(name: str, make: Callable[[str, torch.Tensor], torch.Tensor | None]) -> Change:
    """Other tensors in a safetensors file; None takes one out."""

    def change(folder: Path) -> None:
        made = {key: make(key, value) for key, value in load_file(folder / name).items()}
        kept = {key: value for key, value in made.items() if value is not None}
        assert kept
        save_file(kept, folder / name, metadata={"format": "pt"})

    return change


def without(part: str, name: str = WEIGHTS) -> Change:
    """No tensor whose name contains `part`."""
    return tensors(name, lambda key, tensor: None if part in key else tensor)


def emptied(part: str, name: str = WEIGHTS) -> Change:
    """Tensors of no elements, as they are saved where ZeRO-3 was not gathered."""
    return tensors(name, lambda key, tensor: tensor[:0] if part in key else tensor)


def put(name: str, content: str | bytes) -> Change:
    """Another content of a file."""
    written = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(written)


def remove(pattern: str) -> Change:
    """No file of this pattern."""
    return lambda folder: [file.unlink() for file in folder.glob(pattern)]


def cut(name: str) -> Change:
    """A file that lacks its end."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


def as_pickle(folder: Path) -> None:
    """The same weights in pytorch_model.bin alone."""
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def _first_shard(folder: Path) -> Path:
    return min(folder.glob("model-*.safetensors"))


def _swap_in_index(folder: Path) -> None:
    places = json.loads((folder / INDEX).read_text())["weight_map"]
    assert places["classifier.weight"] != _first_shard(folder).name
    edit(INDEX, weight_map={**places, "classifier.weight": _first_shard(folder).name})(folder)


def _one_too_many(folder: Path) -> None:
    state = {**load_file(folder / WEIGHTS), "old_head.weight": torch.ones(2)}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})


def _hold_nothing(folder: Path) -> None:
    save_file({}, folder / WEIGHTS, metadata={"format": "pt"})


def _zero_second(key: str, tensor: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(tensor) if "lora_B" in key else tensor


def _nan(key: str, tensor: torch.Tensor) -> torch.Tensor:
    return tensor * float("nan") if key == "classifier.bias" else tensor


def _as_empty_onnx(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "model.onnx").touch()


SWAPPED = '{"id2label": {"0": "good", "1": "fine", "2": "bad"}}'
WRONG = [
    Case("head missing", "bert", without("classifier"),
         "model.safetensors: the classification head is missing (classifier.bias (and 1 more))"),
    Case("half a head missing", "roberta", without("classifier.dense"), "(classifier.dense.bias"),
    Case("other half missing", "distilbert", without("pre_classifier"), "(pre_classifier.bias"),
    Case("decoder without a head", "gpt2", without("score"), "head is missing (score.weight)"),
    Case("mlp head missing", "our mlp", without("classifier"), "head is missing (classifier.0."),
    Case("backbone in part", "bert", without("pooler"),
         "the tensor bert.pooler.dense.bias (and 1 more) is missing"),
    Case("tensor too many", "bert", _one_too_many, "the tensor old_head.weight belongs to nothing"),
    Case("head of three, two labels", "bert", edit(CONFIG, **TWO),
         "the head classifier.weight gives 3 labels, where id2label in config.json names 2"),
    Case("other width", "llama", edit(CONFIG, intermediate_size=48),
         "mlp.down_proj.weight has the shape [32, 64], where the config wants [32, 48]"),
    Case("tensors of no elements", "bert", emptied("classifier"),
         "the tensor classifier.bias (and 1 more) has no elements, shape [0]"),
    Case("NaN", "bert", tensors(WEIGHTS, _nan),
         "model.safetensors: the tensor classifier.bias holds NaN"),
    Case("labels swapped", "bert", put("label_mapping.json", SWAPPED),
         "label_mapping.json: says ['good', 'fine', 'bad'] where config.json says ['bad', 'fine'"),
    Case("mapping without labels", "bert", put("label_mapping.json", "{}"),
         "label_mapping.json: is not a label mapping"),
    Case("mapping no object", "bert", put("label_mapping.json", "[]"),
         "label_mapping.json: holds a list"),
    Case("label2id turned", "bert", edit(CONFIG, label2id={"bad": 2, "fine": 1, "good": 0}),
         "config.json: label2id is"),
    Case("labels with a gap", "bert", edit(CONFIG, id2label={"0": "a", "2": "b", "3": "c"}),
         "the keys of id2label are [0, 2, 3]"),
    Case("two labels of one name", "bert", edit(CONFIG, id2label={"0": "a", "1": "a", "2": "b"}),
         "config.json: id2label gives two labels the same name"),
    Case("shard missing", "sharded", lambda folder: _first_shard(folder).unlink(),
         "is missing; model.safetensors.index.json names it"),
    Case("tensor in another shard", "sharded", _swap_in_index,
         "index.json: the tensor classifier.weight is not in model-00001-of-"),
    Case("index missing", "sharded", remove("*.index.json"), f"{INDEX}: is missing"),
    Case("index no JSON", "sharded", put(INDEX, "{"), f"{INDEX}: is not JSON"),
    Case("index without places", "sharded", put(INDEX, "{}"), f"{INDEX}: has no weight_map"),
    Case("shard cut off", "sharded", lambda folder: cut(_first_shard(folder).name)(folder),
         "model-00001-of-"),
    Case("cut off", "bert", cut(WEIGHTS), "model.safetensors: cannot be read; it is cut off"),
    Case("no tensors", "bert", _hold_nothing, "model.safetensors: holds no tensor at all"),
    Case("no safetensors", "bert", put(WEIGHTS, "<html>404</html>"), "model.safetensors: cannot"),
    Case("empty file", "bert", put(WEIGHTS, ""), "model.safetensors: cannot be read"),
    Case("config no JSON", "bert", put(CONFIG, '{"id2label": '), "config.json: is not JSON"),
    Case("config not text", "bert", put(CONFIG, b"\xff\xfe\x00"), "config.json: is not JSON"),
    Case("config a list", "bert", put(CONFIG, "[]"), "config.json: holds a list"),
    Case("no such architecture", "bert", edit(CONFIG, model_type="bertha"),
         "config.json: describes no model that transformers knows"),
    Case("labels no object", "bert", edit(CONFIG, id2label="bad"), "config.json: describes no"),
    Case("no tokenizer", "bert", remove("tokenizer*"), "tokenizer.json: is missing"),
    Case("tokenizer no JSON", "bert", put("tokenizer.json", "{"), "tokenizer.json: the tokenizer"),
    Case("no weights", "bert", remove(WEIGHTS), "has a config.json, and no weights beside it"),
    Case("pickle cut off", "bert", lambda folder: (as_pickle(folder), cut("pytorch_model.bin")(
        folder)), "pytorch_model.bin: cannot be read; it may be cut off"),
    Case("onnx empty", "bert", _as_empty_onnx, "is no ONNX file that can be run"),
    Case("our settings no object", "our mlp", edit(CONFIG, textassay=[1]), "config.json: textass"),
    Case("hallmark of odd content", "our full", edit("hallmark.json", base=[1]), "is not a hal"),
    Case("hallmark no JSON", "our full", put("hallmark.json", "{"), "hallmark.json: is not a hal"),
    Case("file changed", "our lora", lambda folder: edit(ADAPTER_CONFIG)(folder),
         "adapter_config.json was changed after it was stamped"),
    Case("file added", "our lora", put("notes.txt", "hello"), "notes.txt was added after it was"),
    Case("file lost", "our full", remove("label_mapping.json"), "label_mapping.json is missing"),
    Case("DoRA without magnitudes", "peft dora", without("magnitude", ADAPTER),
         "query.lora_magnitude_vector is missing (and 1 more), though use_dora in adapter_config"),
    Case("never trained", "peft lora", tensors(ADAPTER, _zero_second),
         "adapter_model.safetensors: every lora_B is zero"),
    Case("adapter without its head", "peft lora", without("score", ADAPTER),
         "the classification head is missing (modules_to_save in adapter_config.json is ["),
    Case("our adapter without its head", "our bottleneck", without("classifier", ADAPTER),
         "the classification head is missing (base_model.model.classifier.bias (and 1 more))"),
    Case("adapter without a base", "peft lora", edit(ADAPTER_CONFIG, base_model_name_or_path=None),
         "adapter_config.json: base_model_name_or_path names no base"),
    Case("other rank", "peft lora", edit(ADAPTER_CONFIG, r=8),
         "q_proj.lora_A.weight has rank 4, where r in adapter_config.json is 8"),
    Case("layer lost", "peft lora", without("layers.1", ADAPTER),
         "layers.1.self_attn.q_proj.lora_A.weight (and 1 more) is missing, so it would start"),
    Case("layer too many", "peft lora", edit(ADAPTER_CONFIG, layers_to_transform=[0]),
         "layers.1.self_attn.q_proj.lora_A.weight (and 1 more) belongs to nothing"),
    Case("no such module", "peft lora", edit(ADAPTER_CONFIG, target_modules=["qqq"]),
         "adapter_config.json: the adapter cannot be put on its model"),
    Case("no such method", "peft lora", edit(ADAPTER_CONFIG, peft_type="LORE"),
         "adapter_config.json: the adapter cannot be put on its model"),
    Case("adapter config no JSON", "peft lora", put(ADAPTER_CONFIG, "{"),
         "adapter_config.json: is not JSON"),
    Case("adapter cut off", "peft lora", cut(ADAPTER), "adapter_model.safetensors: cannot be read"),
    Case("adapter without weights", "peft lora", remove(ADAPTER),
         "adapter_model.safetensors: is missing"),
    Case("adapter of no elements", "peft lora", emptied("lora", ADAPTER), "has no elements"),
    Case("adapter's head of three, two labels", "peft beside its config", edit(CONFIG, **TWO),
         "gives 3 labels, where id2label in config.json names 2"),
    Case("finished run without a model", "our run",
         lambda folder: shutil.rmtree(folder / "model"), "has no model/, so there is nothing"),
    Case("run with an empty model", "our run", remove("model/*"), "in it is nothing"),
]  # fmt: skip
NOTES = [
    Case("pad token beyond the embeddings", "bert",
         edit("tokenizer_config.json", pad_token="[MORE]"),
         "tokenizer_config.json: the pad token has the id"),
    Case("decoder without a pad id", "llama", edit(CONFIG, pad_token_id=None),
         "config.json: pad_token_id is missing"),
    Case("decoder pads otherwise", "llama", edit(CONFIG, pad_token_id=5),
         "config.json: pad_token_id is 5, where the tokenizer pads with 1"),
    Case("encoder pads otherwise", "bert", edit(CONFIG, pad_token_id=5),
         "config.json: pad_token_id is 5, where the tokenizer pads with 0"),
    Case("label names lost", "bert", edit(CONFIG, id2label=None, label2id=None, num_labels=3),
         "config.json: the label names are lost, id2label says ['LABEL_0', 'LABEL_1', 'LABEL_2']"),
    Case("weights as a pickle", "bert", as_pickle,
         "pytorch_model.bin: the weights are a pickle"),
    Case("base elsewhere", "peft lora", edit(ADAPTER_CONFIG, base_model_name_or_path="its/base"),
         "adapter_config.json: the base its/base is not on this machine"),
    Case("checkpoint without a tokenizer", "our mlp", lambda folder: (
        remove("tokenizer*")(folder), put("trainer_state.json", "{}")(folder)),
        "tokenizer.json: is missing"),
    Case("unfinished run", "our run", remove("finished.json"), "has no finished.json"),
    Case("run that has begun", "our run", lambda folder: (
        remove("finished.json")(folder), shutil.rmtree(folder / "model")),
        "has no model/, so there is nothing that could predict yet"),
]  # fmt: skip
