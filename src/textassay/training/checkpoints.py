"""Checkpoints that count only when they are whole, and which of them are kept."""

import re
import shutil
from pathlib import Path

from textassay.config.runs import Run
from textassay.console import say
from textassay.errors import GateError, UsageError
from textassay.files import read_object, replacing, sha256_file, write_json
from textassay.links import is_own_file, refuse_links

MARKER = "complete.json"
TRAINER_STATE = "trainer_state.json"
NAME = re.compile(r"^checkpoint-(\d+)$")
# Where the checkpoints of a ZeRO run with another number of processes are put away.
CARRIED_OVER = "carried-over"
WEIGHTS = ("*.safetensors", "*.bin")


def mark_complete(
    folder: Path,
    run_fingerprint: str,
    processes: int = 1,
    log_loss: float | None = None,
    owes_evaluation: bool = False,
) -> None:
    """Write the marker that makes a checkpoint count: the size of every file, and whose it is.

    Weights that an artifact is made of have their hashes there too; ZeRO's states are too large.
    `log_loss` is that on the validation rows, where they were evaluated at this step;
    `owes_evaluation` says that they should have been and a signal came between.
    """
    # A step that is saved twice, as the next and as the best, has its earlier marker there.
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != MARKER]
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in files}
    hashes = {path.name: sha256_file(path) for pattern in WEIGHTS for path in folder.glob(pattern)}
    marker = {"run": run_fingerprint, "processes": processes, "log_loss": log_loss,
              "owes_evaluation": owes_evaluation}  # fmt: skip
    write_json(folder / MARKER, {**marker, "files": sizes, "hashes": hashes})


def processes_of(checkpoint: Path) -> int:
    """How many processes wrote a complete checkpoint."""
    return int(read_object(checkpoint / MARKER).get("processes", 1))


def validation_loss(checkpoint: Path) -> float | None:
    """The log loss of a complete checkpoint on the validation rows, if it was evaluated."""
    loss: float | None = read_object(checkpoint / MARKER).get("log_loss")
    return loss


def owes_evaluation(checkpoint: Path) -> bool:
    """Whether a complete checkpoint was written when a signal had cut its evaluation short."""
    return bool(read_object(checkpoint / MARKER).get("owes_evaluation"))


def is_over(checkpoint: Path) -> bool:
    """Whether the training ended with a checkpoint: at its last step, or stopped early there.

    Going on from it, the library would take one step more.
    """
    stored = read_object(checkpoint / TRAINER_STATE).get("stateful_callbacks", {})
    return bool(stored.get("TrainerControl", {}).get("args", {}).get("should_training_stop"))


def is_complete(folder: Path) -> bool:
    """Whether the marker is there and every file has its size."""
    try:
        files = read_object(folder / MARKER)["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, KeyError, ValueError, TypeError, AttributeError):
        return False


def check_weights(checkpoint: Path) -> None:
    """Raise GateError if the weights of a complete checkpoint are not those that were written."""
    for name, stored in read_object(checkpoint / MARKER).get("hashes", {}).items():
        if sha256_file(checkpoint / name) != stored:
            raise GateError(
                f"{checkpoint}: {name} was changed after it was written (its hash differs); put "
                "the file back, or remove the checkpoint, and the run goes on from the one before."
            )


def stored_best(checkpoint: Path) -> str | None:
    """The best checkpoint when `checkpoint` was written, as a path relative to its run.

    Older versions stored where it was at that time; a run that was copied or moved since must not
    take what is there now.
    """
    state = read_object(checkpoint / TRAINER_STATE)
    stored, step = state.get("best_model_checkpoint"), state.get("best_global_step")
    if not stored:
        return f"checkpoint-{step}" if step else None
    parts = Path(stored).parts
    return str(Path(*parts[-3:])) if CARRIED_OVER in parts[-3:-2] else parts[-1]


def find_best(run: Path, start: Path, fingerprint: str) -> Path | None:
    """The best checkpoint of the run that goes on from `start`; None if it is not there.

    It is in the run, or beside a checkpoint that was named in another directory.
    """
    relative = stored_best(start)
    for folder in (run, start.parent) if relative else ():
        best = folder / str(relative)
        if is_complete(best) and _is_of(best, fingerprint):
            refuse_links(best)
            return best
    return None


def store_relative_best(folder: Path) -> None:
    """Make the path of the best checkpoint in a trainer's state relative to the run."""
    content = read_object(folder / TRAINER_STATE)
    if content["best_model_checkpoint"]:
        relative = {"best_model_checkpoint": stored_best(folder)}
        write_json(folder / TRAINER_STATE, {**content, **relative})


def take_along(checkpoint: Path, run: Path) -> Path:
    """A checkpoint that lies in the run: the given one, or a copy of it."""
    if checkpoint.resolve().is_relative_to(run.resolve()):
        return checkpoint
    refuse_links(checkpoint)
    with replacing(run / checkpoint.name) as scratch:
        for name in (*read_object(checkpoint / MARKER)["files"], MARKER):
            if not is_own_file(checkpoint / name, checkpoint):
                raise GateError(
                    f"{checkpoint / MARKER}: names {name!r}, which is not in the checkpoint."
                )
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(checkpoint / name, scratch / name)
    return run / checkpoint.name


def list_checkpoints(folder: Path) -> list[Path]:
    """`checkpoint-N` directories, oldest step first, whole or not."""
    found = [path for path in folder.glob("checkpoint-*") if NAME.match(path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """N of `checkpoint-N`."""
    match = NAME.match(checkpoint.name)
    if match is None:
        raise UsageError(f"{checkpoint}: is not named checkpoint-N.")
    return int(match[1])


def rotate(folder: Path, limit: int, best: Path | None) -> None:
    """Keep the newest `limit` checkpoints; the best one is always among them."""
    kept = [path for path in list_checkpoints(folder) if is_complete(path)]
    newest = kept[-1:]
    protected = {path.name for path in [*newest, *([best] if best else [])]}
    for path in kept:
        if len(kept) <= limit:
            return
        if path.name not in protected:
            shutil.rmtree(path)
            kept = [other for other in kept if other != path]


def find_checkpoint(run: Run, fingerprint: str) -> Path | None:
    """The checkpoint to go on from, or None to start at the beginning.

    `auto` takes the newest complete one of this very run; what a kill left half-written is removed.
    A path must be a complete checkpoint of a run with the same settings and inputs.
    """
    path = named_checkpoint(run)
    if path and not _is_of(path, fingerprint):
        raise UsageError(
            f"--resume_from_checkpoint: {path} belongs to a run with another configuration or "
            "seed, other data or another base model."
        )
    if path:
        refuse_links(path)
    if path or run.starts_again:
        return path
    newest = None
    for path in list_checkpoints(run.path):
        if is_complete(path):
            newest = path
        else:
            say(f"{path.name} was not written to its end; it is removed")
            shutil.rmtree(path)
    if newest and not _is_of(newest, fingerprint):
        raise UsageError(
            f"{newest}: belongs to another run, with other settings, data or another base model; "
            "move it elsewhere, or name another --output_dir."
        )
    if newest:
        refuse_links(newest)
    return newest


def newest_checkpoint(run: Run) -> Path:
    """The newest complete checkpoint of a run; the run's own directory where it has none."""
    complete = [path for path in list_checkpoints(run.path) if is_complete(path)]
    return complete[-1] if complete else run.path


def named_checkpoint(run: Run) -> Path | None:
    """The checkpoint that `resume` names, or None. Raises UsageError if it is not fit."""
    if run.resume in ("auto", "none"):
        return None
    path = Path(run.resume).expanduser()
    if not is_complete(path):
        raise UsageError(
            f"--resume_from_checkpoint: {path} is no complete checkpoint; say auto, none, or the "
            "path of a checkpoint-N directory."
        )
    if run.force and path.resolve().is_relative_to(run.path.resolve()):
        raise UsageError(
            f"--resume_from_checkpoint: {path} would be removed by --force; leave one of them out."
        )
    return path


def _is_of(checkpoint: Path, fingerprint: str) -> bool:
    """Whether a complete checkpoint was written by a run of this name."""
    return bool(read_object(checkpoint / MARKER).get("run") == fingerprint)
