"""A question put to a process of its own, where nothing of this one can help the answer."""

import os
import subprocess

from textassay.errors import GateError, without_colours
from textassay.interpreter import python_command
from textassay.stopping import stop_if_asked

LONGEST_REASON = 500
# How a command of ours begins the line that says why it fails.
ERROR = "error: "
# With these Rich colours what it prints, wherever it goes.
COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE")


def run_in_fresh_process(module: str, arguments: list[str], complaint: str) -> None:
    """`python -m module arguments`. GateError with the complaint and what it said, if it fails."""
    # A process of its own, not one more of those that train together; what it says is read here.
    left_out = ("RANK", *COLOURS)
    alone = {name: value for name, value in os.environ.items() if name not in left_out}
    command = python_command("-m", module, *arguments)
    done = subprocess.run(command, capture_output=True, text=True, env=alone)
    stop_if_asked()  # the signal may have ended that one
    if done.returncode != 0:
        said = without_colours(done.stderr.strip() or done.stdout.strip())
        # Before our error, which is one line, stand notes and what libraries say.
        errors = [line for line in said.splitlines() if line.startswith(ERROR)]
        reason = errors[-1].removeprefix(ERROR) if errors else said[-LONGEST_REASON:]
        reason = reason or f"it ended with {done.returncode} (-9: was there memory enough?)."
        raise GateError(f"{complaint} in a fresh process: {reason}")
