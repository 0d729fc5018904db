"""Classifiers of tiny bases: tuned as if trained, saved, read back, and asked with any padding."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tests.models_for_tests import (
    TEXTS,
    tiny_bert,
    tiny_distilbert,
    tiny_gpt2,
    tiny_llama,
    tiny_qwen2,
    tiny_roberta,
)

from textassay.artifacts.hallmark import stamp
from textassay.artifacts.kinds import Loaded, load_artifact, save_weights
from textassay.config.schema import MethodSection, ModelSection
from textassay.data.encode import encode_texts
from textassay.data.labels import LabelMap
from textassay.data.prompt import Prompt
from textassay.files import write_json
from textassay.models.classifier import BuiltClassifier, build_classifier
from textassay.models.methods import attach
from textassay.models.predict import compute_logits
from textassay.models.source import find_model

LABELS = LabelMap(("bad", "fine", "good"))
LENGTH = 48
ENCODERS = {"bert": tiny_bert, "roberta": tiny_roberta, "distilbert": tiny_distilbert}
DECODERS = {"gpt2": tiny_gpt2, "llama": tiny_llama, "qwen2": tiny_qwen2}
FAMILIES = {**ENCODERS, **DECODERS}
# Two of a block's linear layers, as each family names them.
ATTENTION = {
    "bert": ["query", "value"],
    "roberta": ["query", "value"],
    "distilbert": ["q_lin", "v_lin"],
    "gpt2": ["c_attn"],
    "llama": ["q_proj", "v_proj"],
    "qwen2": ["q_proj", "v_proj"],
}

# Other sizes than those of tests/models_for_tests.py: bitsandbytes wants multiples of 64.
WIDER = {
    "bert": {"hidden_size": 64, "intermediate_size": 128},
    "roberta": {"hidden_size": 64, "intermediate_size": 128},
    "distilbert": {"dim": 64, "hidden_dim": 128},
    "gpt2": {"n_embd": 64},
    "llama": {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32},
    "qwen2": {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32},
}


def resized(base: Path, folder: Path, **sizes: Any) -> Path:
    """The same kind of base in other sizes, with random weights, in `folder`."""
    shutil.copytree(base, folder, dirs_exist_ok=True)
    config = transformers.AutoConfig.from_pretrained(base, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, config.architectures[0])(config).save_pretrained(folder)
    return folder


def build(
    base: Path, labels: LabelMap = LABELS, prompt: Prompt | None = None, **model: Any
) -> BuiltClassifier:
    """A classifier on this base, the same at every call, in evaluation mode."""
    torch.manual_seed(0)
    section = ModelSection(max_seq_length=LENGTH, **model)
    built = build_classifier(find_model(str(base)), labels, section, prompt)
    built.model.eval()
    return built


def tune(built: BuiltClassifier, base: Path, scale: float = 0.1, **method: Any) -> Any:
    """The model with the method on it, every trainable weight moved as by a training."""
    torch.manual_seed(1)
    section = MethodSection.model_validate(method)
    return shake(attach(built, section, find_model(str(base)).name), scale).eval()


def shake(model: Any, scale: float = 0.1) -> Any:
    """Move every trainable weight: adapters start as the identity, which would hide a lost one."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * scale)
    return model


def save(folder: Path, model: Any, tokenizer: Any, labels: LabelMap = LABELS) -> Loaded:
    """An artifact without a hallmark in `folder`, as it is read back."""
    save_weights(model, folder)
    tokenizer.save_pretrained(folder)
    write_json(folder / "label_mapping.json", labels.to_json())
    return load_artifact(folder)


def stamp_as_is(folder: Path, loaded: Loaded) -> None:
    """A hallmark, without which nothing can be merged or verified."""
    base = loaded.base
    facts = {"name": base.name, "weights": base.weights_hash()} if base else {}
    stamp(folder, loaded, list(TEXTS), facts, {}, {}, {})


def ids_of(tokenizer: Any, texts: Sequence[str], prompt: Prompt | None = None) -> list[list[int]]:
    """The tokens of each text."""
    return encode_texts(list(texts), tokenizer, LENGTH, prompt)[0]


def logits_of(loaded: Any, model: Any = None, texts: Sequence[str] = TEXTS) -> np.ndarray:
    """Logits of a Loaded or a BuiltClassifier, or of another model with its tokenizer."""
    ids = ids_of(loaded.tokenizer, texts, getattr(loaded, "prompt", None))
    return compute_logits(model or loaded.model, ids, loaded.tokenizer.pad_token_id)


def ask(
    model: Any, rows: Sequence[Sequence[int]], pad_id: int, side: str = "right", extra: int = 0
) -> torch.Tensor:
    """Logits of one padded batch; `extra` columns of padding beyond the longest row."""
    return model(**padded(rows, pad_id, side, extra)).logits


def padded(
    rows: Sequence[Sequence[int]], pad_id: int, side: str = "right", extra: int = 0
) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, padded by hand on either side."""
    width = max(len(row) for row in rows) + extra
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[index, place] = torch.tensor(row)
        mask[index, place] = 1
    return {"input_ids": ids, "attention_mask": mask}
