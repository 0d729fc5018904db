"""Which of a run's artifacts is served: the fastest that is there, unless one is asked for."""

from pathlib import Path

from textassay.config.runs import is_run
from textassay.prediction.finding import find_artifact

# A GPU that is asked for is used, which the usual build of ONNX Runtime cannot.
FASTEST = {"cpu": ("onnx-int8", "onnx"), "auto": ("onnx-int8", "onnx"), "cuda": ()}
TORCH = "model"


def choose_artifact(named: str, backend: str, device: str) -> Path:
    """The directory to serve for a run, an artifact or a hub name.

    Of a run `auto` takes `onnx-int8/`, else `onnx/`, else `model/`; a directory that is an artifact
    itself is served as it is. Raises UsageError where there is none.
    """
    if backend != "auto":
        return find_artifact(named, TORCH if backend == "torch" else backend)
    run = Path(named).expanduser()
    if is_run(run):
        there = (place for place in FASTEST[device] if (run / place).is_dir())
        return find_artifact(named, next(there, TORCH))
    return find_artifact(named)
