"""A run that a signal stopped wherever it was goes on to the very end of an undisturbed one."""

import os
import signal
import time

import pytest
from tests.training.killing import CONTEXT, carry_out, run_to_the_end, stop_at, trained_weights

from textassay.files import read_json
from textassay.training.checkpoints import is_complete, list_checkpoints, owes_evaluation

pytestmark = pytest.mark.slow
STEPS = {
    "training__eval_strategy": "steps",
    "training__eval_steps": 4,
    "training__save_strategy": "steps",
    "training__save_steps": 8,
    "training__gradient_accumulation_steps": 2,
    "training__per_device_train_batch_size": 8,
    "training__early_stopping_patience": 3,
}
EPOCHS = {"training__eval_strategy": "epoch", "training__save_strategy": "epoch"}
# Its first evaluation is the best for ever, so the training is over with the second.
IDLE = {**STEPS, "training__early_stopping_patience": 1, "training__learning_rate": 1e-9}


def evaluations(run):
    """Step, loss and score of each evaluation, in their order."""
    history = read_json(run.path / "trainer_state.json")["log_history"]
    return [(e["step"], e["eval_loss"], e["eval_macro_f1"]) for e in history if "eval_loss" in e]


def ended_alike(one, other) -> bool:
    best = [read_json(run.path / "trainer_state.json")["best_metric"] for run in (one, other)]
    assert best[0] == best[1]
    assert evaluations(one) == evaluations(other) and len(evaluations(one)) > 1
    return trained_weights(one.path) == trained_weights(other.path)


EVERYWHERE = [("on_step_end", 0, 1), ("on_prediction_step", 0, 0), ("on_prediction_step", -1, 0),
              ("on_save", -1, 0)]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "events"),
    [(STEPS, EVERYWHERE), (EPOCHS, EVERYWHERE[:2]), (IDLE, EVERYWHERE[2:3])],
    ids=["steps", "epochs", "idle"],
)
def test_wherever_the_signal_comes_the_end_is_the_same(make_run, settings, events) -> None:
    """`events`: what the trainer is at, in which evaluation's step, or how many steps behind it."""
    unbroken = make_run("unbroken", **settings)
    run_to_the_end(unbroken)
    steps = [step for step, *_ in evaluations(unbroken)]
    max_steps = read_json(unbroken.path / "trainer_state.json")["max_steps"]
    for event, evaluation, behind in events:
        step = steps[evaluation] + behind
        broken = make_run(f"{event}-{step}", **settings)
        stop_at(broken, event, step)
        newest = list_checkpoints(broken.path)[-1]
        assert newest.name == f"checkpoint-{step}" and is_complete(newest)
        # Cut short, unless it was over, or no later step would make up for it.
        owed = event != "on_save" and step in steps and step < max_steps
        assert owes_evaluation(newest) == owed
        run_to_the_end(broken)
        assert ended_alike(broken, unbroken), f"{event} of step {step}"
        assert not any(map(owes_evaluation, list_checkpoints(broken.path)))


def test_signals_again_and_again_and_two_at_once(make_run) -> None:
    """Each attempt is stopped by two signals once it has come further than the one before."""
    unbroken, broken = make_run("unbroken", **STEPS), make_run("broken", **STEPS)
    run_to_the_end(unbroken)
    stopped = 0
    while not broken.is_finished():
        before = list_checkpoints(broken.path)[-1:]
        process = CONTEXT.Process(target=carry_out, args=(broken,))
        process.start()
        while process.is_alive() and list_checkpoints(broken.path)[-1:] == before:
            time.sleep(0.002)
        if process.is_alive() and stopped < 4:
            os.kill(process.pid or 0, signal.SIGUSR1)
            os.kill(process.pid or 0, signal.SIGTERM)
        process.join()
        assert process.exitcode in (0, 75)
        stopped += process.exitcode == 75
    assert stopped >= 2
    assert ended_alike(broken, unbroken)
