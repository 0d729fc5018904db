"""Runs in processes that can be killed: forked from a server that has imported everything once."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

from tests.verifying_for_tests import verifying_here

from textassay.config.runs import Run
from textassay.console import reports_errors
from textassay.stopping import heeding_signals

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["textassay.training.run"])


def carry_out(run: Run, stop: tuple[str, int] | None = None) -> None:
    """Train in this process, as a launcher does; `stop` says where a signal shall come."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    from textassay.training.run import run_training

    torch.set_num_threads(1)
    with heeding_signals(), verifying_here():
        if stop:
            send_signal_at(*stop)
        reports_errors(run_training)(run)


def send_signal_at(event: str, step: int) -> None:
    """SIGTERM to this process when the trainer comes to `event` (`on_save`, …) of `step`."""
    from textassay.training.interruption import StopRule

    original = getattr(StopRule, event)

    def sending(self, args, state, control, **given):
        if state.global_step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, args, state, control, **given)

    setattr(StopRule, event, sending)


def stop_at(run: Run, event: str, step: int) -> None:
    """Train until the signal ends it, which it has to."""
    process = CONTEXT.Process(target=carry_out, args=(run, (event, step)))
    process.start()
    process.join()
    assert process.exitcode == 75


def run_to_the_end(run: Run) -> None:
    """The whole run, in a process of its own."""
    process = CONTEXT.Process(target=carry_out, args=(run,))
    process.start()
    process.join()
    assert process.exitcode == 0


def kill_after(run: Run, checkpoint: str, delay: float) -> None:
    """SIGKILL `delay` seconds after `checkpoint` became complete."""
    process = CONTEXT.Process(target=carry_out, args=(run,))
    process.start()
    while process.is_alive() and not (run.path / checkpoint / "complete.json").exists():
        time.sleep(0.002)
    time.sleep(delay)
    assert process.is_alive(), "the run ended before it could be killed"
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()


def trained_weights(folder: Path) -> bytes:
    """The bytes of the artifact's weights."""
    return next((folder / "model").glob("*model.safetensors")).read_bytes()
