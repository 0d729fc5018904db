"""Which of a run's artifacts is served."""

from pathlib import Path

from textassay.prediction.finding import TORCH, find_artifact


def choose_artifact(named: str, backend: str, device: str) -> Path:
    """The directory to serve for a run, an artifact or a hub name.

    Of a run `auto` takes what a prediction takes: the fastest that was made from its model/ and is
    proven; a directory that is an artifact itself is served as it is. Raises UsageError where there
    is none.
    """
    if backend == "auto":
        return find_artifact(named, None, device)
    return find_artifact(named, TORCH if backend == "torch" else backend)
