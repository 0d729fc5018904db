"""Which directory answers: an artifact, one of a run's, or what a hub name stands for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textassay.artifacts.hallmark import FILE, read_hallmark
from textassay.config.runs import is_run, refuse_links_in
from textassay.console import say, some
from textassay.errors import GateError, UsageError
from textassay.files import read_json, sha256_file
from textassay.links import refuse_link, refuse_links

# The artifacts of a run, by the folder that each lies in.
PLACES = ("model", "merged", "onnx", "onnx-int8")
TORCH = PLACES[0]
# The exports that answer instead of model/, the fastest first.
FASTER = ("onnx-int8", "onnx")


def find_artifact(named: str, backend: str | None = None, device: str = "cpu") -> Path:
    """The directory of the artifact that is meant by a run, an artifact or a hub name.

    `backend` picks one of a run's artifacts (PLACES). Without one the fastest answers that was made
    from its model/ and is proven (`fastest_place`). Raises UsageError where there is none.
    """
    folder = _find_artifact(named, backend, device)
    refuse_links(folder)
    return folder


def _find_artifact(named: str, backend: str | None, device: str) -> Path:
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
    if backend:
        return _of_run(run, backend)
    place, others = fastest_place(run, device)
    return _of_run(run, place, others)


def fastest_place(run: Path, device: str) -> tuple[str, list[str]]:
    """The folder of a run that answers unless one is asked for, and why faster ones do not.

    On a GPU it is torch that answers, since the usual build of ONNX Runtime cannot use one.
    """
    gpu = device == "cuda" or (device == "auto" and any(Path("/dev").glob("nvidia[0-9]*")))
    reasons: list[str] = []
    for place in () if gpu else FASTER:
        if not (run / place).is_dir():
            continue
        reason = _why_not(run, place)
        if reason is None:
            return place, reasons
        reasons.append(f"{place}/ {reason}")
    return TORCH, reasons


def _why_not(run: Path, place: str) -> str | None:
    """Why an export does not answer unasked; None where it may."""
    if not _is_made_from(run, place, TORCH):
        return f"was not made from this {TORCH}/"
    if place == "onnx-int8" and _verdict(run / place) != "proven":
        return "is not proven"
    return None


def _is_made_from(run: Path, place: str, source: str) -> bool:
    """Whether the hallmarks lead from one artifact of a run back to another one."""
    if place == source:
        return True
    try:
        parent = (read_hallmark(run / place) or {}).get("made_from")
    except GateError:
        return False
    parents = (other for other in PLACES if (run / other / FILE).is_file() and other != place)
    return parent is not None and any(
        sha256_file(run / other / FILE) == parent and _is_made_from(run, other, source)
        for other in parents
    )


def _verdict(folder: Path) -> Any:
    """What the export of INT8 came to: proven or unproven; None where that is not known."""
    try:
        return read_json(folder / "export.json")["verdict"]["state"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _of_run(run: Path, place: str, others: Sequence[str] = ()) -> Path:
    folder = run / place
    refuse_links_in(run)
    refuse_link(folder, run)
    if folder.is_dir():
        why = f" ({'; '.join(others)})" if others else ""
        say(f"{run}: its {place}/ answers{why}")
        return folder
    there = [name for name in PLACES if (run / name).is_dir()]
    if not there:
        raise UsageError(
            f"{run}: has no model/ yet; carry the run out to its end, or name a directory that can "
            "predict."
        )
    make = f"textassay export {run} --to {place}"
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
        raise UsageError(f"{path}: holds the runs {some(runs)}; name one of them.")
