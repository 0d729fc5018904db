"""The evaluator in a Slurm job: python -m textassay.cluster.evaluate ARTIFACT … [flags]

What `eval.sh` does, for a container in which nobody knows where the project's files are.
"""

import os
import sys
from collections.abc import Sequence

from textassay.cluster.place import Place
from textassay.interpreter import python_command
from textassay.stopping import heeding_signals, run_passing_on

EVALUATOR = "textassay.commands.evaluate"


def command_of(arguments: Sequence[str], place: Place) -> list[str]:
    """The evaluator's command; once the job was queued again, what it has evaluated stays so."""
    command = python_command("-m", EVALUATOR, *arguments)
    return [*command, *(["--skip_existing"] if place.restarts else [])]


if __name__ == "__main__":
    with heeding_signals():
        sys.exit(run_passing_on(command_of(sys.argv[1:], Place.in_step(os.environ))))
