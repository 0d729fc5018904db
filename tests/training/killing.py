"""Runs in processes that can be killed: forked from a server that has imported everything once."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

from textassay.config.runs import Run

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["textassay.training.run"])


def carry_out(run: Run) -> None:
    """Train in this process, as a launcher does."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    from textassay.training.run import run_training

    torch.set_num_threads(1)
    run_training(run)


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
