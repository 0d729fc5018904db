"""Which directory answers: an artifact, one of a run's, or what a hub name stands for."""

from pathlib import Path

from textassay.config.runs import is_run
from textassay.console import say
from textassay.errors import UsageError

# The artifacts of a run, by the folder that each lies in.
PLACES = ("model", "merged", "onnx", "onnx-int8")


def find_artifact(named: str, backend: str | None = None) -> Path:
    """The directory of the artifact that is meant by a run, an artifact or a hub name.

    `backend` picks one of a run's artifacts (PLACES); `model/` answers where it does not. Raises
    UsageError where there is none.
    """
    path = Path(named).expanduser()
    if not path.exists():
        return _on_hub(named, backend)
    run = path if is_run(path) else path.resolve().parent
    if not is_run(run):
        _refuse_folder_of_runs(path)
        if backend:
            raise UsageError(
                f"--backend {backend}: {named} is no run, whose artifacts could be chosen among; "
                "name the directory of the artifact instead."
            )
        return path
    if path != run and not backend:
        return path
    return _of_run(run, backend or PLACES[0])


def _of_run(run: Path, place: str) -> Path:
    folder = run / place
    if folder.is_dir():
        say(f"{run}: its {place}/ answers")
        return folder
    there = [name for name in PLACES if (run / name).is_dir()]
    if not there:
        raise UsageError(
            f"{run}: has no model/ yet; carry the run out to its end, or name a directory that can "
            "predict."
        )
    make = f"python scripts/export.py {run} --to {place}"
    raise UsageError(
        f"{run}: has no {place}/ (there is {', '.join(there)}); make it with `{make}`."
    )


def _on_hub(named: str, backend: str | None) -> Path:
    from textassay.models.source import find_model

    if backend:
        raise UsageError(f"--backend {backend}: {named} is no run; name a run to choose from.")
    try:
        return find_model(named).path
    except UsageError as error:
        raise UsageError(str(error).removeprefix("model.model_name_or_path: ")) from None


def _refuse_folder_of_runs(path: Path) -> None:
    runs = sorted(below.name for below in path.glob("seed-*") if is_run(below))
    if runs:
        raise UsageError(f"{path}: holds the runs {', '.join(runs)}; name one of them.")
