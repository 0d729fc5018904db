"""Only whole checkpoints count, and the best one is never deleted."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from textassay.config.runs import Run
from textassay.config.schema import Job
from textassay.errors import GateError, UsageError
from textassay.files import read_json, write_json
from textassay.training.checkpoints import (
    check_weights,
    find_best,
    find_checkpoint,
    is_complete,
    list_checkpoints,
    mark_complete,
    named_checkpoint,
    rotate,
    store_relative_best,
    stored_best,
    take_along,
)
from textassay.training.trainer import AssayTrainer


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


def with_state(path: Path, best: str | None, step: int | None = None) -> Path:
    state = {"best_model_checkpoint": best, "best_global_step": step}
    write_json(path / "trainer_state.json", state)
    return path


@pytest.mark.parametrize(
    ("stored", "step", "relative"),
    [
        ("/elsewhere/run/checkpoint-5", 5, "checkpoint-5"),
        ("runs/a/seed-0/checkpoint-5", 5, "checkpoint-5"),
        ("checkpoint-5", 5, "checkpoint-5"),
        ("/elsewhere/run/carried-over/1/checkpoint-5", None, "carried-over/1/checkpoint-5"),
        ("carried-over/1/checkpoint-5", None, "carried-over/1/checkpoint-5"),
        (None, 5, "checkpoint-5"),
        (None, None, None),
    ],
)
def test_the_best_checkpoint_is_looked_for_inside_the_run(
    stored: str | None, step: int | None, relative: str | None, tmp_path: Path
) -> None:
    """Whatever the run was called when that was written."""
    newest = with_state(checkpoint(tmp_path / "run", 10), stored, step)
    assert stored_best(newest) == relative
    assert find_best(tmp_path / "run", newest, "somebody's") is None
    best = tmp_path / "run" / (relative or "checkpoint-5")
    checkpoint(best.parent, 5)
    assert find_best(tmp_path / "run", newest, "somebody's") == (best if relative else None)
    assert find_best(tmp_path / "run", newest, "another's") is None


def test_the_best_checkpoint_beside_one_in_another_directory_is_taken_along(tmp_path: Path) -> None:
    best = checkpoint(tmp_path / "theirs", 5)
    start = with_state(checkpoint(tmp_path / "theirs", 10), "theirs/checkpoint-5", 5)
    run = tmp_path / "ours"
    assert find_best(run, start, "somebody's") == best
    inside = take_along(best, run)
    assert inside == run / "checkpoint-5" and is_complete(inside)
    assert find_best(run, start, "somebody's") == inside == take_along(inside, run)


def test_the_path_of_the_best_is_stored_relative_to_the_run(tmp_path: Path) -> None:
    newest = with_state(tmp_path / "checkpoint-10", str(tmp_path / "checkpoint-5"), 5)
    for _ in range(2):
        store_relative_best(newest)
        assert read_json(newest / "trainer_state.json")["best_model_checkpoint"] == "checkpoint-5"


def test_weights_that_were_changed_after_they_were_written_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-5"
    path.mkdir()
    (path / "adapter_model.safetensors").write_bytes(b"1234")
    mark_complete(path, "somebody's")
    check_weights(path)
    (path / "adapter_model.safetensors").write_bytes(b"1235")
    assert is_complete(path)
    with pytest.raises(GateError, match=r"adapter_model.safetensors was changed"):
        check_weights(path)
    read = read_json(path / "complete.json")
    write_json(path / "complete.json", {k: v for k, v in read.items() if k != "hashes"})
    check_weights(path)  # of an earlier version


def test_a_checkpoint_of_another_run_in_the_directory_stops_the_run(tmp_path: Path) -> None:
    run = Run(Job(), 0, tmp_path)
    checkpoint(tmp_path, 5, run)
    checkpoint(tmp_path, 10)
    with pytest.raises(UsageError, match="checkpoint-10: belongs to another run"):
        find_checkpoint(run, run.fingerprint({}))
    assert find_checkpoint(replace(run, force=True), "any") is None


def test_a_checkpoint_that_force_would_remove_is_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 5)
    with pytest.raises(UsageError, match="would be removed by --force"):
        named_checkpoint(Run(Job(), 0, tmp_path, force=True, resume=str(path)))


def trainer_at(run: Path, step: int, evaluated: bool) -> SimpleNamespace:
    history = [{"step": step, "eval_macro_f1": 0.4}] if evaluated else []
    state = SimpleNamespace(
        global_step=step, log_history=history, best_metric=0.9, best_global_step=5,
        best_model_checkpoint="/elsewhere/run/checkpoint-5",
    )  # fmt: skip
    args = SimpleNamespace(output_dir=str(run), metric_for_best_model="macro_f1")
    return SimpleNamespace(state=state, args=args, _run_id="somebody's")


@pytest.mark.parametrize("evaluated", [True, False])
def test_a_best_that_is_gone_is_sought_anew(evaluated: bool, tmp_path: Path) -> None:
    start = with_state(checkpoint(tmp_path, 10), "/elsewhere/run/checkpoint-5", 5)
    trainer = trainer_at(tmp_path, 10, evaluated)
    AssayTrainer.settle_best(trainer, start)  # type: ignore[arg-type]
    found = (trainer.state.best_metric, trainer.state.best_model_checkpoint)
    assert found == ((0.4, str(start)) if evaluated else (None, None))


def test_a_best_that_is_inside_stays_the_best(tmp_path: Path) -> None:
    start = with_state(checkpoint(tmp_path, 10), "/elsewhere/run/checkpoint-5", 5)
    best = checkpoint(tmp_path, 5)
    trainer = trainer_at(tmp_path, 10, evaluated=True)
    AssayTrainer.settle_best(trainer, start)  # type: ignore[arg-type]
    assert trainer.state.best_metric == 0.9
    assert trainer.state.best_model_checkpoint == str(best)
