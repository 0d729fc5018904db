"""Runs as a launcher leaves them, of models that nobody trained, and rows to evaluate them on."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tests.commands_for_tests import go_offline
from tests.comparisons_for_tests import LABELS
from tests.models_for_tests import tiny_bert

from textassay.artifacts.hallmark import stamp
from textassay.artifacts.kinds import load_artifact, save_weights
from textassay.config.load import resolve_job
from textassay.config.runs import Run, preparing
from textassay.data.labels import LabelMap
from textassay.data.load import load_dataset
from textassay.files import write_json
from textassay.models.classifier import build_classifier
from textassay.models.methods import attach
from textassay.models.source import find_model
from textassay.training.provenance import data_record


def rows_csv(seed: int, labels: tuple[str, ...] = LABELS, rows: int = 60) -> str:
    """Rows whose texts tell their labels, none of them twice."""
    words = {"bad": "dull", "fine": "nothing special", "good": "warm and funny"}
    lines = [f"{words.get(labels[i % len(labels)], 'odd')} film number {seed} {i},"
             f"{labels[i % len(labels)]}" for i in range(rows)]  # fmt: skip
    return "text,label\n" + "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Place:
    """A folder with two stamped artifacts in runs on the same data, and their base."""

    base: Path
    data: Path
    a: Path
    b: Path


def make_place(root: Path, caches: Path, second: str = "lora") -> Place:
    """The place in `root`, made offline; `second` is the method of b."""
    with pytest.MonkeyPatch.context() as patch:
        go_offline(patch, caches)
        base = tiny_bert(root / "base", [rows_csv(0)])
        data = root / "rows.csv"
        data.write_text(rows_csv(0))
        a = make_run(root / "a", base, data, 0)
        return Place(base, data, a, make_run(root / "b", base, data, 1, method=second))


def make_run(folder: Path, base: Path, data: Path, seed: int, order: tuple[str, ...] = LABELS,
             method: str = "lora") -> Path:  # fmt: skip
    """A run as a launcher leaves it, of a model that nobody trained."""
    given = {
        "data.path": str(data),
        "model.model_name_or_path": str(base),
        "model.max_seq_length": 32,
        "method.name": method,
        "evaluation.bootstrap_samples": 100,
    }
    if method == "lora":
        given["method.target_modules"] = "query,value"
    job, _ = resolve_job(None, None, {}, given, "full" if method == "full" else "lora")
    run = Run(job, seed, folder)
    source, labels = find_model(str(base)), LabelMap(order)
    torch.manual_seed(seed)
    built = build_classifier(source, labels, job.model, None)
    model = attach(built, job.method, source.name)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    with preparing(run):
        save_weights(model, run.model_dir)
    built.tokenizer.save_pretrained(run.model_dir)
    write_json(run.model_dir / "label_mapping.json", labels.to_json())
    facts = {"name": source.name, "weights": source.weights_hash()}
    record = data_record(load_dataset(job.data))
    stamp(run.model_dir, load_artifact(run.model_dir), [], facts, record, {}, {})
    return folder
