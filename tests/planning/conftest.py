"""Tiny bases as configs alone, and jobs on them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.classifiers_for_tests import FAMILIES, WIDER, resized

from textassay.config.load import resolve_job
from textassay.config.schema import Job
from textassay.data.labels import LabelMap
from textassay.planning.memory import Footprint, find_place, footprint
from textassay.planning.rows import Rows
from textassay.planning.skeleton import build, find_config, tokenizer_in

LABELS = LabelMap(("bad", "fine", "good"))
LENGTH = 32


@pytest.fixture(scope="session")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`base_of("bert")`: a whole tiny base; `bert-wide` is as wide as 4 bits want it."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            family, _, wide = name.partition("-")
            made[name] = FAMILIES[family](tmp_path_factory.mktemp(family))
            if wide:
                made[name] = resized(made[name], tmp_path_factory.mktemp(name), **WIDER[family])
        return made[name]

    return make


@pytest.fixture(scope="session")
def config_of(
    base_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """`config_of("bert")`: the same base's config.json, and nothing else."""

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(f"config-{name}")
        shutil.copy(base_of(name) / "config.json", folder)
        return folder

    return make


def job_on(base: Path, launcher: str = "full", **settings: Any) -> Job:
    """`job_on(base, training__precision="fp32")`."""
    flags = {key.replace("__", "."): value for key, value in settings.items()}
    method = {"method.name": "full"} if launcher == "full" else {}
    given = {"model.model_name_or_path": str(base), "model.max_seq_length": LENGTH,
             "resources.device": "cpu", "training.precision": "fp32"}  # fmt: skip
    return resolve_job(None, None, {}, {**given, **method, **flags}, launcher)[0]


def model_of(job: Job) -> Any:
    """The skeleton of a job's model."""
    folder = find_config(job.model.model_name_or_path)
    return build(job, folder, LABELS, tokenizer_in(folder, LENGTH))


def seen(job: Job, world_size: int | None = None) -> Footprint:
    """What a plan of the job's memory is computed from."""
    rows = Rows(LABELS, LENGTH, LENGTH)
    return footprint(job, model_of(job), rows, find_place(job, world_size)[0])
