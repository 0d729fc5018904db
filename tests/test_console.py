"""What a process says when it ends."""

import subprocess
import sys

# The second signal comes while the process says that the first one has stopped it.
TOLD_TWICE = """
import os, signal
from textassay.console import err, reports_errors
from textassay.errors import Stopped

said = err().print
def told_again(*words, **style):
    os.kill(os.getpid(), signal.SIGUSR1)
    said(*words, **style)
err().print = told_again

@reports_errors
def main():
    raise Stopped("stopped by SIGUSR1 at step 3.")

main()
"""


def test_a_second_signal_does_not_cut_the_last_word() -> None:
    done = subprocess.run([sys.executable, "-c", TOLD_TWICE], capture_output=True, text=True)
    assert done.returncode == 75
    assert done.stderr == "error: stopped by SIGUSR1 at step 3.\n"
