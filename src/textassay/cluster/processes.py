"""Start a node's part of a run's processes:
python -m textassay.cluster.processes SEED COUNT SCRIPT …

Like `textassay.training.launch`, but the processes are those of all nodes of a Slurm step, which
find each other on the first one.
"""

import os
import sys

from textassay.cluster.place import Place
from textassay.console import reports_errors
from textassay.interpreter import python_command
from textassay.stopping import heeding_signals
from textassay.training.launch import Meeting, count_processes, start_processes


@reports_errors
def main(seed: str, wanted: str, command: list[str]) -> int:
    """The exit code of the first of this node's processes that failed."""
    place = Place.in_step(os.environ)
    meeting = None  # a single node needs no port
    if place.nodes > 1:
        name = place.meeting_of(int(seed))
        meeting = Meeting(place.nodes, place.node, place.address, place.port_of(name), name)
    return start_processes(count_processes(wanted), command, meeting)


if __name__ == "__main__":
    with heeding_signals():
        sys.exit(main(sys.argv[1], sys.argv[2], python_command(*sys.argv[3:])))
