"""Classifiers out of base models: fresh parts, pad tokens, and logits that padding cannot move."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models_for_tests import tiny_bert, tiny_llama, tiny_roberta

from textassay.config.schema import MethodSection, ModelSection
from textassay.data.encode import encode_texts
from textassay.data.labels import LabelMap
from textassay.errors import UsageError
from textassay.models.classifier import build_classifier, count_parameters
from textassay.models.methods import attach
from textassay.models.predict import compute_logits, pad_batch
from textassay.models.source import find_model

LABELS = LabelMap(("bad", "fine", "good"))
SECTION = ModelSection(max_seq_length=32)
FAMILIES = {"bert": tiny_bert, "roberta": tiny_roberta, "llama": tiny_llama}


def build(make, folder: Path, **settings):
    return build_classifier(find_model(str(make(folder))), LABELS, SECTION, None, **settings)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_depend_neither_on_batch_mates_nor_on_padding(family: str, tmp_path: Path) -> None:
    built = build(FAMILIES[family], tmp_path)
    texts = ["a good film", "the food was fine, the service was not, and far too long", "dull"]
    ids, _ = encode_texts(texts, built.tokenizer, 32, None)
    pad = built.tokenizer.pad_token_id
    together = compute_logits(built.model, ids, pad, batch_size=3)
    alone = compute_logits(built.model, ids, pad, batch_size=1)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    padded = pad_batch([ids[0], ids[1] + ids[1][:4]], pad)
    with torch.inference_mode():
        long = built.model(**padded).logits[0].numpy()
    np.testing.assert_allclose(long, alone[0], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_model_and_tokenizer_agree_on_the_pad_token(family: str, tmp_path: Path) -> None:
    built = build(FAMILIES[family], tmp_path)
    assert built.tokenizer.pad_token_id is not None
    assert built.model.config.pad_token_id == built.tokenizer.pad_token_id


def test_the_head_and_what_the_checkpoint_left_open_are_fresh(tmp_path: Path) -> None:
    built = build(tiny_bert, tmp_path)
    assert built.fresh == ["classifier", "bert.pooler.dense"]


def test_fresh_parts_are_trained_beside_the_adapter_and_nothing_else(tmp_path: Path) -> None:
    built = build(tiny_bert, tmp_path)
    method = MethodSection(name="lora", r=4, target_modules=["query", "value"])
    model = attach(built, method, "a-base")
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    kinds = {"lora_A", "lora_B", "classifier", "pooler"}
    assert all(any(kind in name for kind in kinds) for name in trainable)
    assert all(any(kind in name for name in trainable) for kind in kinds)
    width, layers = 32, 2
    lora = layers * 2 * 2 * 4 * width
    head = width * 3 + 3
    pooler = width * width + width
    assert count_parameters(model)[0] == lora + head + pooler
    assert model.peft_config["default"].base_model_name_or_path == "a-base"


def test_a_full_method_leaves_every_weight_trainable(tmp_path: Path) -> None:
    built = build(tiny_bert, tmp_path)
    trainable, total = count_parameters(attach(built, MethodSection(name="full"), "a-base"))
    assert trainable == total


def test_equal_seeds_give_equal_heads(tmp_path: Path) -> None:
    heads = []
    for folder in ("one", "two"):
        torch.manual_seed(3)
        heads.append(build(tiny_bert, tmp_path / folder).model.classifier.weight)
    assert torch.equal(*heads)


def test_target_modules_that_are_not_there_are_named(tmp_path: Path) -> None:
    built = build(tiny_bert, tmp_path)
    with pytest.raises(UsageError, match=r"q_proj.*dense.*query.*value"):
        attach(built, MethodSection(name="lora", target_modules=["q_proj"]), "a-base")


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    bert, llama = tiny_bert(tmp_path / "bert"), tiny_llama(tmp_path / "llama")
    (bert / "model.safetensors").write_bytes((llama / "model.safetensors").read_bytes())
    with pytest.raises(UsageError, match="another architecture"):
        build_classifier(find_model(str(bert)), LABELS, SECTION, None)


def test_labels_stand_in_the_config(tmp_path: Path) -> None:
    config = build(tiny_bert, tmp_path).model.config
    assert config.id2label == {0: "bad", 1: "fine", 2: "good"}
    assert config.label2id == {"bad": 0, "fine": 1, "good": 2}


def test_a_fresh_module_inside_a_named_one_is_saved_once(tmp_path: Path) -> None:
    built = build(tiny_bert, tmp_path)
    method = MethodSection(name="lora", target_modules=["query"], modules_to_save=["pooler"])
    model = attach(built, method, "a-base")
    assert sum("modules_to_save" in name for name, _ in model.named_parameters()) == 4


def test_a_tokenizer_without_a_token_for_padding_is_refused(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path)
    path = base / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in config.items() if not k.endswith("_token")}))
    with pytest.raises(UsageError, match="no pad, end or unknown token"):
        build_classifier(find_model(str(base)), LABELS, SECTION, None)
