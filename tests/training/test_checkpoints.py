"""Only whole checkpoints count, and the best one is never deleted."""

from pathlib import Path

import pytest

from textassay.config.runs import Run
from textassay.config.schema import Job
from textassay.errors import UsageError
from textassay.training.checkpoints import (
    find_checkpoint,
    is_complete,
    list_checkpoints,
    mark_complete,
    rotate,
)


def checkpoint(folder: Path, step: int, run: Run | None = None) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "weights").write_text("1234")
    mark_complete(path, run.fingerprint({}) if run else "somebody's")
    return path


def names(folder: Path) -> list[str]:
    return [path.name for path in list_checkpoints(folder)]


def test_a_checkpoint_without_its_marker_does_not_count(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 5)
    assert is_complete(path)
    (path / "complete.json").unlink()
    assert not is_complete(path)


def test_a_truncated_file_makes_a_checkpoint_incomplete(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 5)
    (path / "weights").write_text("12")
    assert not is_complete(path)


def test_auto_takes_the_newest_whole_one_and_removes_the_rest(tmp_path: Path) -> None:
    run = Run(Job(), 0, tmp_path)
    for step in (5, 10, 100):
        checkpoint(tmp_path, step, run)
    (tmp_path / "checkpoint-100" / "complete.json").unlink()
    found = find_checkpoint(run, run.fingerprint({}))
    assert found is not None and found.name == "checkpoint-10"
    assert names(tmp_path) == ["checkpoint-5", "checkpoint-10"]


def test_rotation_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        checkpoint(tmp_path, step)
    rotate(tmp_path, 2, tmp_path / "checkpoint-5")
    assert names(tmp_path) == ["checkpoint-5", "checkpoint-20"]


def test_rotation_never_leaves_nothing_to_resume_from(tmp_path: Path) -> None:
    for step in (5, 10):
        checkpoint(tmp_path, step)
    rotate(tmp_path, 1, tmp_path / "checkpoint-5")
    assert names(tmp_path) == ["checkpoint-5", "checkpoint-10"]


def test_a_named_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    theirs = checkpoint(tmp_path / "theirs", 5, Run(Job(), 1, tmp_path))
    run = Run(Job(), 0, tmp_path / "ours", resume=str(theirs))
    with pytest.raises(UsageError, match="another configuration or seed"):
        find_checkpoint(run, run.fingerprint({}))


def test_a_named_checkpoint_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    run = Run(Job(), 0, tmp_path, resume=str(tmp_path / "checkpoint-7"))
    with pytest.raises(UsageError, match="no complete checkpoint"):
        find_checkpoint(run, run.fingerprint({}))
