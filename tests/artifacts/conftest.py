"""Artifacts of tiny models, made once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models_for_tests import TEXTS, tiny_bert

from textassay.artifacts.hallmark import stamp
from textassay.artifacts.kinds import load_artifact, save_weights
from textassay.config.schema import MethodSection, ModelSection
from textassay.data.labels import LabelMap
from textassay.files import write_json
from textassay.models.classifier import build_classifier
from textassay.models.methods import attach
from textassay.models.source import find_model

METHODS: dict[str, dict[str, Any]] = {
    "full": {"name": "full"},
    "lora": {"name": "lora", "target_modules": ["query", "value"]},
    "dora": {"name": "lora", "target_modules": ["query", "value"], "use_dora": True},
    "rslora": {"name": "lora", "target_modules": ["query", "output.dense"], "use_rslora": True},
    "ia3": {
        "name": "ia3",
        "target_modules": ["value", "intermediate.dense"],
        "feedforward_modules": ["intermediate.dense"],
    },
}


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model."""
    return tiny_bert(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def make(base: Path) -> Callable[..., Any]:
    """make(folder, method): a stamped artifact in `folder`; returns the model that was saved."""

    def make_artifact(folder: Path, method: str = "lora") -> Any:
        torch.manual_seed(0)
        source, labels = find_model(str(base)), LabelMap(("bad", "fine", "good"))
        built = build_classifier(source, labels, ModelSection(max_seq_length=32), None)
        model = attach(built, MethodSection.model_validate(METHODS[method]), source.name)
        with torch.no_grad():  # adapters start as the identity, which would hide a lost one
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        save_weights(model, folder)
        built.tokenizer.save_pretrained(folder)
        write_json(folder / "label_mapping.json", labels.to_json())
        facts = {"name": source.name, "weights": source.weights_hash()}
        stamp(folder, load_artifact(folder), list(TEXTS), facts, {}, {}, {})
        return model.eval()

    return make_artifact
