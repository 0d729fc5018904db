"""What the evaluator is asked for, and the folder where its files go."""

from dataclasses import dataclass
from pathlib import Path

from textassay.artifacts.hallmark import FILE
from textassay.artifacts.identify import RUN, ZERO, Identity
from textassay.artifacts.zero.files import STEP
from textassay.config.runs import FINISHED, is_run
from textassay.config.schema import DataSection
from textassay.errors import UsageError
from textassay.evaluation.outputs import RESULTS


@dataclass(frozen=True)
class Request:
    """What to evaluate, on which rows, and where the files go; None takes what is usual."""

    where: str
    data: DataSection | None = None
    output_dir: Path | None = None
    base: str | None = None
    seed: int | None = None
    max_length: int | None = None
    device: str = "auto"
    batch_size: int | None = None
    keep_consolidated: bool = False
    force: bool = False
    skip_existing: bool = False


def usual_folder(path: Path, identity: Identity, request: Request) -> Path:
    """Where the files go unless the user says: into a run that has none, else a folder beside.

    Never into an artifact, whose files are stamped, nor into a checkpoint, which may be rotated.
    """
    other = f"-{_name_of(request.data)}" if request.data else ""
    other += f"-length-{request.max_length}" if request.max_length else ""
    if identity.kind == RUN:
        untested = not other and not (path / RESULTS).is_file()
        return path if untested else path / f"evaluation{other}"
    if not Path(request.where).exists():
        return Path(f"{Path(request.where).name}-evaluation{other}")
    resolved = path.resolve()
    if identity.kind == ZERO and STEP.match(resolved.name):
        resolved = resolved.parent
    run = run_above(resolved)
    if run:
        what = "" if resolved.name == "model" else f"-{resolved.name}"
        return run / f"evaluation{what}{other}"
    return resolved.parent / f"{resolved.name}-evaluation{other}"


def _name_of(data: DataSection) -> str:
    return data.name or Path(data.path or "rows").stem


def run_above(path: Path) -> Path | None:
    """The run that a path lies in, however deep."""
    return next((place for place in path.parents if is_run(place)), None)


def refuse_folder(folder: Path, path: Path, identity: Identity, request: Request) -> None:
    """UsageError where the files would get into an artifact, a run of others, or over results."""
    resolved = folder.resolve()
    for place in (resolved, *resolved.parents):
        if (place / FILE).is_file() or place == identity.folder.resolve():
            raise UsageError(f"{folder}: lies in the artifact {place}; name another --output_dir.")
    if is_run(resolved):
        own = identity.kind == RUN and resolved == path.resolve()
        if not own or request.data or request.max_length:
            raise UsageError(
                f"{folder}: is a run, whose own results would be other rows' or another model's; "
                "name another --output_dir."
            )
        if not (path / FINISHED).is_file():
            raise UsageError(
                f"{path}: has not been carried out to its end (no {FINISHED}); go on with the run, "
                "or evaluate one of its checkpoints."
            )
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; name another --output_dir.")
    if (folder / RESULTS).is_file() and not request.force:
        raise UsageError(
            f"{folder}: {RESULTS} is there already; name another --output_dir, or replace it "
            "with --force."
        )
