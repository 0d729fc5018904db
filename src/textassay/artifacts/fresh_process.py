"""A question put to a process of its own, where nothing of this one can help the answer."""

import os
import subprocess
import sys

from textassay.errors import GateError
from textassay.stopping import stop_if_asked

LONGEST_REASON = 1500


def run_in_fresh_process(module: str, arguments: list[str], complaint: str) -> None:
    """`python -m module arguments`. GateError with the complaint and what it said, if it fails."""
    # A process of its own, not one more of those that train together.
    alone = {name: value for name, value in os.environ.items() if name != "RANK"}
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=alone)
    stop_if_asked()  # the signal may have ended that one
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip()
        raise GateError(f"{complaint} in a fresh process: {said[-LONGEST_REASON:]}")
