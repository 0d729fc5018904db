"""How a run came about: command, code, versions, machine, data, base."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import textassay
from textassay.config.identity import Values
from textassay.config.runs import Run
from textassay.data.load import Dataset
from textassay.files import project_root
from textassay.masking import mask_command
from textassay.models.processor import cpu_flags
from textassay.models.source import Source
from textassay.training.ranks import world_size

PACKAGES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "datasets", "numpy")
TELLING_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")


def describe_run(run: Run, dataset: Dataset, base: Source, inputs: Values, device: torch.device,
                 precision: str) -> dict[str, Any]:  # fmt: skip
    """The content of `provenance.json`; `inputs` are those of `find_inputs`."""
    return {
        "job": run.job.name,
        "seed": run.seed,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": mask_command([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "config": run.fingerprint(inputs),
        **_slurm_job(),
        "code": code_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": describe_machine(device),
        "precision": precision,
        "processes": world_size(),
        "base": {**base.describe(), "origin": base.origin},
        "data": {
            "name": dataset.name,
            "rows": {split: len(table) for split, table in dataset.splits.items()},
            "fingerprints": {split: inputs[split]["sha256"] for split in dataset.splits},
            "notes": dataset.notes,
        },
    }


def code_version() -> str:
    """The commit of this checkout, or image, marked if files differed; else the package's version.

    An image has no git; TEXTASSAY_COMMIT says what it was built of.
    """
    built_of = os.environ.get("TEXTASSAY_COMMIT", "unknown")
    if built_of != "unknown":
        return built_of
    root = project_root()
    try:
        commit = _git("-C", str(root), "rev-parse", "--short=12", "HEAD")
        changed = _git("-C", str(root), "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return f"textassay {textassay.__version__}"
    return f"{commit}{' with changes' if changed else ''}"


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What the figures of a run depend on."""
    described: dict[str, Any] = {
        "device": device.type,
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "flags": [flag for flag in TELLING_FLAGS if flag in cpu_flags()],
    }
    if device.type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(device)
    return described


def _slurm_job() -> dict[str, str]:
    """Which Slurm job this is a part of, if of one."""
    job = os.environ.get("SLURM_JOB_ID")
    return {"slurm_job": job} if job else {}


def made_by(provenance: dict[str, Any]) -> dict[str, Any]:
    """The part of the provenance that goes into a hallmark; of a student also its teacher."""
    taught = {"teacher": provenance["teacher"]} if "teacher" in provenance else {}
    return {
        "command": provenance["command"],
        "config": provenance["config"],
        "code": provenance["code"],
        "seed": provenance["seed"],
        "processes": provenance["processes"],
        "versions": provenance["versions"],
        **taught,
    }


def data_record(dataset: Dataset) -> dict[str, Any]:
    """What a hallmark says of the training data."""
    return {
        "name": dataset.name,
        "rows": len(dataset.splits["train"]),
        "fingerprint": dataset.whole_fingerprint(),
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
