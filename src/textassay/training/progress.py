"""What a training run shows while it lasts."""

import sys
import time
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

from textassay.console import err, say

# Without a terminal a line now and then; a bar would fill the log.
SECONDS_BETWEEN_LINES = 30


class ProgressDisplay(TrainerCallback):
    """A live bar on a terminal, lines elsewhere; a line for every evaluation."""

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._bar: Progress | None = None
        self._task: Any = None
        self._last_line = 0.0
        self._loss = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the bar."""
        self._last_line = time.monotonic()
        if sys.stderr.isatty():
            columns = (
                TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"),
                TextColumn("{task.description}"), TimeRemainingColumn(),
            )  # fmt: skip
            self._bar = Progress(*columns, console=err(), transient=True)
            self._task = self._bar.add_task("", total=state.max_steps, completed=state.global_step)
            self._bar.start()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Remember the newest loss."""
        if logs and "loss" in logs:
            self._loss = f"loss {float(logs['loss']):.3f}"

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the bar, or print a line if the last one is long ago."""
        if self._bar is not None:
            self._bar.update(self._task, completed=state.global_step, description=self._loss)
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            say(f"  step {state.global_step} of {state.max_steps}  {self._loss}")

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any
    ) -> None:
        """One line a validation."""
        found = metrics.get(f"eval_{self._metric}")
        shown = f"{self._metric} {found:.3f}  " if found is not None else ""
        loss = metrics.get("eval_loss", float("nan"))
        place = f"epoch {state.epoch:.2f}  step {state.global_step}"
        say(f"  {place}  validation {shown}loss {loss:.3f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
