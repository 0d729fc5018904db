"""Going on with another number of processes than before.

DeepSpeed cuts the optimizer's states for one number of processes. With another one the weights are
carried over through the consolidator, and a new optimizer trains what is left of the epochs.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from textassay.artifacts.kinds import restore_weights
from textassay.artifacts.zero.checkpoint import open_checkpoint
from textassay.artifacts.zero.consolidate import consolidate, plan_consolidation
from textassay.config.runs import Run
from textassay.console import warn
from textassay.files import read_json, replacing, write_json
from textassay.training.checkpoints import list_checkpoints, processes_of
from textassay.training.ranks import world_size

FOLDER = "carried-over"
STATE = "state.json"
WEIGHTS = "weights"
ONE_FILE = 1 << 62


@dataclass(frozen=True)
class Carried:
    """What an earlier part of the run left: weights, the share of the work done, its best."""

    weights: Path
    share: float
    best_metric: float | None
    best_checkpoint: str | None

    def shorten(self, arguments: Any) -> None:
        """Let the trainer do what is left."""
        arguments.num_train_epochs *= 1 - self.share
        if arguments.max_steps > 0:
            arguments.max_steps = max(1, round(arguments.max_steps * (1 - self.share)))

    def restore(self, model: Any) -> None:
        """Put the weights into a model of the same make."""
        restore_weights(model, self.weights)


class BestSoFar(TrainerCallback):
    """The best checkpoint of the earlier part stays the best until it is beaten."""

    def __init__(self, carried: Carried) -> None:
        self._carried = carried

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Only where this part begins: a resumed one knows its best."""
        if state.best_metric is None:
            state.best_metric = self._carried.best_metric
            state.best_model_checkpoint = self._carried.best_checkpoint


def carry_over(run: Run, checkpoint: Path) -> None:
    """Make `carried-over/` of a checkpoint of another number of processes, and say so."""
    before, after = processes_of(checkpoint), world_size()
    state = read_json(checkpoint / "trainer_state.json")
    came_from = {"checkpoint": checkpoint.name, "processes": before}
    folder = run.path / FOLDER
    if not folder.is_dir() or read_json(folder / STATE)["from"] != came_from:
        earlier = find_carried(run)
        done = earlier.share if earlier else 0.0
        share = done + (1 - done) * state["global_step"] / state["max_steps"]
        best = state["best_model_checkpoint"]
        with replacing(folder) as scratch:
            plan = plan_consolidation(open_checkpoint(checkpoint), None)
            consolidate(plan, scratch / WEIGHTS, torch.float32, ONE_FILE)
            kept = _keep(best, folder, scratch)
            write_json(
                scratch / STATE,
                {"from": came_from, "share": share, "best_metric": state["best_metric"],
                 "best_checkpoint": kept},
            )  # fmt: skip
    for old in list_checkpoints(run.path):
        old.rename(folder / old.name)
    warn(
        f"{checkpoint.name} is of {before} processes and these are {after}: the weights are "
        "carried over, the optimizer starts anew and trains what is left. Earlier checkpoints are "
        f"in {folder}."
    )


def find_carried(run: Run) -> Carried | None:
    """What an earlier part of the run left, if there was one."""
    folder = run.path / FOLDER
    if not (folder / STATE).is_file():
        return None
    state = read_json(folder / STATE)
    best = state["best_checkpoint"]
    return Carried(
        folder / WEIGHTS, state["share"], state["best_metric"], str(folder / best) if best else None
    )


def _keep(best: str | None, folder: Path, scratch: Path) -> str | None:
    """The best checkpoint's name in the new folder; one that lies in the old folder comes along."""
    if best is None:
        return None
    where = Path(best)
    if where.parent.name == folder.name and where.is_dir():
        shutil.copytree(where, scratch / where.name, copy_function=os.link)
    return where.name
