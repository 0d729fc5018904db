"""A small job on the sample data, with a tiny model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.models_for_tests import tiny_bert

from textassay.config.load import resolve_job
from textassay.config.runs import Run
from textassay.data.read import read_file
from textassay.files import project_root


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT whose tokenizer knows the sample's words."""
    rows = read_file(project_root() / "data" / "samples" / "sentiment5_en.csv")
    return tiny_bert(tmp_path_factory.mktemp("tiny"), rows.columns["text"].to_pylist(), 128)


@pytest.fixture
def make_run(tiny_base: Path, tmp_path: Path) -> Callable[..., Run]:
    """make_run(folder, setting=value, …): a run of some thirty steps."""
    return lambda folder="run", **told: run_on(tiny_base, tmp_path / folder, **told)


def run_on(base: Path, folder: Path, seed: int = 0, launcher: str = "lora", **settings: Any) -> Run:
    """A run of some thirty steps in this folder."""
    given = {
        "data.name": "sentiment5_en",
        "data.max_samples": 160,
        "model.model_name_or_path": str(base),
        "model.max_seq_length": 32,
        "training.per_device_train_batch_size": 16,
        "training.num_train_epochs": 3,
        "evaluation.baselines": "false",
        "evaluation.bootstrap_samples": 100,
        "evaluation.probe_rows": 4,
        **{key.replace("__", "."): value for key, value in settings.items()},
    }
    if launcher == "lora":
        given.setdefault("method.target_modules", "query,value")
    job, _ = resolve_job(None, None, {}, given, launcher)
    return Run(job, seed, folder)
