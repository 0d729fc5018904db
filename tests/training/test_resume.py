"""A run killed with SIGKILL and resumed ends with the same bytes as one that nobody disturbed."""

import dataclasses
import random
import shutil

import pytest
from tests.training.killing import kill_after, run_to_the_end, trained_weights

from textassay.files import read_json

pytestmark = pytest.mark.slow
STEPS_PER_EPOCH = 10  # 160 rows, batches of 8, two of them a step


@pytest.mark.parametrize("sampler", ["random", "sequential", "group_by_length"])
@pytest.mark.parametrize("launcher", ["lora", "full"])
def test_a_killed_run_ends_with_the_same_weights(make_run, sampler, launcher) -> None:
    settings = {
        "launcher": launcher,
        "training__train_sampling_strategy": sampler,
        "training__per_device_train_batch_size": 8,
        "training__gradient_accumulation_steps": 2,
        "training__save_strategy": "steps",
        "training__save_steps": 3,
        "training__early_stopping_patience": 3,
    }
    unbroken = make_run("unbroken", **settings)
    run_to_the_end(unbroken)
    history = read_json(unbroken.path / "trainer_state.json")["log_history"]
    # Once in the first epoch and once in a later one, each at a step of its own.
    for epoch in ("first", "later"):
        broken = make_run(f"broken-{epoch}", **settings)
        checkpoint = "checkpoint-3" if epoch == "first" else "checkpoint-15"
        kill_after(broken, checkpoint, delay=random.uniform(0, 0.1))
        assert not broken.is_finished()
        run_to_the_end(broken)
        assert trained_weights(broken.path) == trained_weights(unbroken.path)
        resumed = read_json(broken.path / "trainer_state.json")["log_history"]
        losses = [[e["eval_loss"] for e in h if "eval_loss" in e] for h in (history, resumed)]
        assert losses[0] == losses[1]


def test_a_run_that_was_killed_twice_still_ends_the_same(make_run) -> None:
    settings = {"training__save_strategy": "steps", "training__save_steps": 4}
    unbroken, broken = make_run("unbroken", **settings), make_run("broken", **settings)
    run_to_the_end(unbroken)
    kill_after(broken, "checkpoint-4", 0.02)
    kill_after(broken, "checkpoint-16", 0.02)
    run_to_the_end(broken)
    assert trained_weights(broken.path) == trained_weights(unbroken.path)


def test_another_seed_gives_other_weights(make_run) -> None:
    """Else the equality above would prove nothing."""
    runs = [make_run(f"seed-{seed}", seed=seed) for seed in (0, 1)]
    for run in runs:
        run_to_the_end(run)
    assert trained_weights(runs[0].path) != trained_weights(runs[1].path)


@pytest.mark.parametrize("stop", ["max_steps", "early_stopping"])
def test_a_run_that_was_killed_behind_its_last_step_trains_no_more(make_run, stop) -> None:
    """The library would take one step more, or all that early stopping left out."""
    settings = {"training__save_strategy": "steps", "training__save_steps": 2}
    if stop == "max_steps":
        settings |= {"training__max_steps": 4}
    else:
        settings |= {"training__early_stopping_patience": 1, "training__learning_rate": 1e-9}
    run = make_run("run", **settings)
    run_to_the_end(run)
    weights = trained_weights(run.path)
    before = read_json(run.path / "trainer_state.json")
    assert before["global_step"] < 40
    shutil.rmtree(run.path / "model")
    (run.path / "finished.json").unlink()
    run_to_the_end(run)
    assert trained_weights(run.path) == weights
    after = read_json(run.path / "trainer_state.json")
    assert after["global_step"] == before["global_step"]
    assert after["best_model_checkpoint"] == before["best_model_checkpoint"]


def test_a_copied_run_ends_with_weights_of_its_own(make_run) -> None:
    """The best checkpoint is the one inside, wherever it was when that was stored."""
    first = make_run("first", training__save_strategy="steps", training__save_steps=4,
                     training__max_steps=12)  # fmt: skip
    kill_after(first, "checkpoint-4", 0.0)
    copy = dataclasses.replace(first, path=first.path.parent / "copy")
    shutil.copytree(first.path, copy.path)
    run_to_the_end(first)
    weights, best = trained_weights(first.path), read_json(first.path / "train_results.json")
    shutil.rmtree(first.path)
    run_to_the_end(copy)
    assert trained_weights(copy.path) == weights
    for name in ("best_checkpoint", "best_metric"):
        assert read_json(copy.path / "train_results.json")[name] == best[name]
