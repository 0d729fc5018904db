"""Start a node's part of a run's processes: python -m textassay.cluster.processes COUNT SCRIPT …

Like `textassay.training.launch`, but the processes are those of all nodes of a Slurm step, which
find each other on the first one.
"""

import os
import sys

from textassay.cluster.place import Place
from textassay.stopping import heeding_signals
from textassay.training.launch import Meeting, count_processes, start_processes


def main(wanted: str, command: list[str]) -> int:
    """The exit code of the first of this node's processes that failed."""
    place = Place.in_step(os.environ)
    meeting = Meeting(place.nodes, place.node, place.address, place.port)
    return start_processes(count_processes(wanted), command, meeting)


if __name__ == "__main__":
    with heeding_signals():
        sys.exit(main(sys.argv[1], [sys.executable, *sys.argv[2:]]))
