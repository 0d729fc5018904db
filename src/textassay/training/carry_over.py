"""Going on with another number of processes than before.

DeepSpeed cuts the optimizer's states for one number of processes. With another one the weights are
carried over through the consolidator, and a new optimizer goes on at the same place of the job.
"""

import shutil
from pathlib import Path
from typing import Any

from textassay.artifacts.zero.checkpoint import ZeroCheckpoint
from textassay.artifacts.zero.consolidate import consolidate, plan_consolidation
from textassay.config.runs import Run
from textassay.console import counted, warn
from textassay.files import read_object, replacing, write_json
from textassay.training.checkpoints import (
    CARRIED_OVER,
    TRAINER_STATE,
    list_checkpoints,
    processes_of,
)
from textassay.training.ranks import world_size

PART = "part.json"
BEFORE = "trainer_state_before.json"
WEIGHTS = "weights"
ONE_FILE = 1 << 62
# What a share of an epoch may fall short of a whole step by, in floating point.
WHOLE = 1e-6


def carry_over(run: Run, checkpoint: Path, opened: ZeroCheckpoint) -> Path:
    """Put the part of the run that ends with `checkpoint` away, and say so; the part's folder.

    It holds the weights, where the trainer was, and the part's checkpoints, whose steps count
    otherwise than those to come. A call that was interrupted may be made again.
    """
    before, after = processes_of(checkpoint), world_size()
    came_from = {"checkpoint": checkpoint.name, "processes": before}
    last = newest_part(run)
    folder = run.path / CARRIED_OVER / str(len(_parts(run)) + 1)
    if last and read_object(last / PART) == came_from and checkpoint.parent == run.path:
        folder = last
    else:
        with replacing(folder) as scratch:
            plan = plan_consolidation(opened, None)
            consolidate(plan, scratch / WEIGHTS, max_shard_size=ONE_FILE)
            # The second is written anew once the steps are known.
            for name in (BEFORE, TRAINER_STATE):
                shutil.copyfile(checkpoint / TRAINER_STATE, scratch / name)
            write_json(scratch / PART, came_from)
    for old in list_checkpoints(run.path):
        old.rename(folder / old.name)
    warn(
        f"{checkpoint.name} is of {counted(before, 'process')} and these are {after}: the weights "
        "are "
        f"carried over, the optimizer starts anew. Earlier checkpoints are in {folder}."
    )
    return folder


def newest_part(run: Run) -> Path | None:
    """The folder of the part that was put away last, if there is one."""
    parts = _parts(run)
    return parts[-1] if parts else None


def is_part(folder: Path) -> bool:
    """Whether a part of a run was put away there."""
    return (folder / PART).is_file()


def place_trainer(part: Path, max_steps: int, steps_per_epoch: int, counts_steps: bool) -> None:
    """Write the state from which the trainer goes on: the same place, counted in its own steps.

    With another number of processes an epoch has another number of steps. `counts_steps` says that
    the job does not count in epochs, so that steps stay what they are.
    """
    state: dict[str, Any] = read_object(part / BEFORE)
    step = state["global_step"]
    place = step if counts_steps else int(state["epoch"] * steps_per_epoch + WHOLE)
    place = min(place, max_steps)
    best = state["best_model_checkpoint"]
    if best and (part / Path(best).name).is_dir():
        best = str(part / Path(best).name)
    ratio = place / max(1, step)
    history = [{**entry, "step": round(entry["step"] * ratio)} for entry in state["log_history"]]
    write_json(
        part / TRAINER_STATE,
        {**state, "global_step": place, "max_steps": max_steps, "log_history": history,
         "best_global_step": None, "best_model_checkpoint": best},
    )  # fmt: skip


def _parts(run: Run) -> list[Path]:
    found = [path for path in (run.path / CARRIED_OVER).glob("*") if path.name.isdigit()]
    return sorted((path for path in found if is_part(path)), key=lambda path: int(path.name))
