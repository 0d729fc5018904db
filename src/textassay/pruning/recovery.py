"""The run that trains a pruned model: its original's job, but on the pruned base and shortly."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from textassay.config.runs import Run, stored_config
from textassay.config.schema import Job
from textassay.evaluation.stored_run import StoredRun, other_version

# As a share of all steps.
WARMUP = 0.1


@dataclass(frozen=True)
class Recovery:
    """How long and how fast; `steps` counts instead of epochs, no `seed` takes the original's."""

    epochs: float = 3.0
    steps: int | None = None
    learning_rate: float = 5e-5
    seed: int | None = None


def usual_directory(original: StoredRun, recovery: Recovery) -> Path:
    """`runs/<job>-pruned/seed-<k>`, beside the original's job."""
    content = stored_config(original.config.parent)
    runs_dir = Path((content.get("artifact") or {}).get("runs_dir") or "runs")
    return runs_dir / f"{content['name']}-pruned" / f"seed-{_seed(content, recovery)}"


def recovery_run(
    original: StoredRun, out: Path, base: Path, recovery: Recovery, device: str
) -> Run:
    """A run of the full launcher in `out`, on the rows and with the settings of the original's run.

    What the original's method, base and launcher were is left behind. UsageError where its
    config.yaml is of another version.
    """
    content = stored_config(original.config.parent)
    seed = _seed(content, recovery)
    told: dict[str, Any] = {
        "name": f"{content['name']}-pruned",
        "launcher": "full",
        "seeds": [seed],
        "data": content["data"],
        "model": {
            **content["model"],
            "model_name_or_path": str(base),
            "revision": None,
            "load_in_4bit": False,
        },
        "method": {"name": "full"},
        "training": _for_recovery(content["training"], recovery),
        "evaluation": content["evaluation"],
        "resources": {"device": device},
    }
    try:
        return Run(Job.model_validate(told), seed, out)
    except ValidationError as error:
        raise other_version(original.config, error) from None


def _for_recovery(training: dict[str, Any], recovery: Recovery) -> dict[str, Any]:
    return {
        **training,
        "learning_rate": recovery.learning_rate,
        "num_train_epochs": recovery.epochs,
        "max_steps": recovery.steps or -1,
        # The original's counts of steps may be longer than all of this training.
        "warmup_steps": min(training["warmup_steps"], WARMUP),
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "eval_steps": None,
    }


def _seed(content: dict[str, Any], recovery: Recovery) -> int:
    return int(content["seed"]) if recovery.seed is None else recovery.seed
