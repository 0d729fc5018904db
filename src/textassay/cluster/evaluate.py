"""The evaluator in a Slurm job: python -m textassay.cluster.evaluate ARTIFACT … [flags]

What `eval.sh` does, for a container in which nobody knows where the project's files are.
"""

import sys

from textassay.files import project_root
from textassay.stopping import heeding_signals, run_passing_on

if __name__ == "__main__":
    script = str(project_root() / "scripts" / "evaluate.py")
    with heeding_signals():
        sys.exit(run_passing_on([sys.executable, script, *sys.argv[1:]]))
