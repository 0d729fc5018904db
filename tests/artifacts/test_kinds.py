"""Saving and loading: the same logits come back, and nothing is made up."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.artifacts.conftest import METHODS
from tests.models_for_tests import TEXTS, tiny_bert

from textassay.artifacts.kinds import (
    find_kind,
    load_artifact,
    restore_weights,
    save_weights,
)
from textassay.data.encode import encode_texts
from textassay.errors import GateError, UsageError
from textassay.models.predict import compute_logits


def logits_of(model, tokenizer) -> np.ndarray:
    ids, _ = encode_texts(list(TEXTS), tokenizer, 32, None)
    return compute_logits(model, ids, tokenizer.pad_token_id)


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_classifier_comes_back_with_the_same_logits(make, method, tmp_path) -> None:
    model = make(tmp_path, method)
    loaded = load_artifact(tmp_path)
    np.testing.assert_allclose(
        logits_of(loaded.model, loaded.tokenizer), logits_of(model, loaded.tokenizer), atol=1e-6
    )
    assert loaded.labels.names == ("bad", "fine", "good")
    assert loaded.max_length == 32
    assert find_kind(tmp_path) == ("model" if method == "full" else "adapter")
    modes = {path.suffix: path.stat().st_mode for path in tmp_path.iterdir() if path.is_file()}
    assert modes[".safetensors"] == modes[".json"], "who may read the config may read the weights"


@pytest.mark.parametrize("method", METHODS)
def test_weights_are_restored_into_a_model_of_the_same_make(make, method, tmp_path) -> None:
    model = make(tmp_path, method)
    tokenizer = load_artifact(tmp_path).tokenizer
    before = logits_of(model, tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)
    assert np.abs(logits_of(model, tokenizer) - before).max() > 0.01
    restore_weights(model, tmp_path)
    np.testing.assert_array_equal(logits_of(model, tokenizer), before)


def test_nothing_of_this_machine_stands_in_an_adapter(make, tmp_path, base) -> None:
    make(tmp_path)
    text = (tmp_path / "config.json").read_text()
    assert str(base.parent) not in text


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_missing_head_is_refused(make, method, tmp_path) -> None:
    make(tmp_path, method)
    drop_tensors(tmp_path, "classifier")
    with pytest.raises(GateError, match="classifier"):
        load_artifact(tmp_path)


def test_a_lost_dora_magnitude_is_refused(make, tmp_path) -> None:
    make(tmp_path, "dora")
    drop_tensors(tmp_path, "magnitude")
    with pytest.raises(GateError, match="magnitude"):
        load_artifact(tmp_path)


def test_a_tensor_that_belongs_to_nothing_is_refused(make, tmp_path) -> None:
    make(tmp_path, "full")
    path = tmp_path / "model.safetensors"
    save_file({**load_file(path), "extra.weight": torch.ones(2)}, path, {"format": "pt"})
    with pytest.raises(GateError, match=r"extra\.weight"):
        load_artifact(tmp_path)


def test_swapped_labels_are_refused(make, tmp_path) -> None:
    make(tmp_path)
    path = tmp_path / "label_mapping.json"
    mapping = json.loads(path.read_text())
    mapping["id2label"]["0"], mapping["id2label"]["2"] = "good", "bad"
    path.write_text(json.dumps(mapping))
    with pytest.raises(GateError, match="labels were swapped"):
        load_artifact(tmp_path)


def test_an_empty_tensor_is_never_written(make, tmp_path) -> None:
    model = make(tmp_path / "made", "full")
    model.classifier.weight.data = torch.empty(0)
    with pytest.raises(GateError, match="no elements"):
        save_weights(model, tmp_path / "saved")


def test_the_base_may_lie_elsewhere(make, base, tmp_path) -> None:
    make(tmp_path / "adapter")
    moved = tiny_bert(tmp_path / "moved")
    config = tmp_path / "adapter" / "adapter_config.json"
    content = json.loads(config.read_text())
    content["base_model_name_or_path"] = str(tmp_path / "gone")
    config.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="gone"):
        load_artifact(tmp_path / "adapter")
    assert load_artifact(tmp_path / "adapter", base=str(moved)).base.path == moved


def test_a_folder_without_a_model_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no artifact"):
        find_kind(tmp_path)


def drop_tensors(folder: Path, part: str) -> None:
    path = next(folder.glob("*model.safetensors"))
    kept = {name: tensor for name, tensor in load_file(path).items() if part not in name}
    save_file(kept, path, {"format": "pt"})


def test_broken_and_foreign_folders_are_one_sentence(make, tmp_path) -> None:
    make(tmp_path / "adapter")
    (tmp_path / "adapter" / "config.json").unlink()
    with pytest.raises(GateError, match=r"without the config\.json of its classifier"):
        load_artifact(tmp_path / "adapter")
    make(tmp_path / "cut", "full")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(GateError, match="cannot be read as model"):
        load_artifact(tmp_path / "cut")
    make(tmp_path / "strange", "full")
    config = tmp_path / "strange" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "nobodys"}))
    with pytest.raises(GateError, match=r"config\.json: describes no model"):
        load_artifact(tmp_path / "strange")
    make(tmp_path / "baseless")
    path = tmp_path / "baseless" / "adapter_config.json"
    content = json.loads(path.read_text())
    del content["base_model_name_or_path"]
    path.write_text(json.dumps(content))
    with pytest.raises(GateError, match="does not say what its base is"):
        load_artifact(tmp_path / "baseless")
