"""A command in a process of its own, and how much memory it took beyond what it began with.

As a script: `python tests/peaks_for_tests.py FILE SCRIPT ARGUMENTS…` writes the MB into FILE. What
a process has once had and given back to its allocator it may take again without the system's leave,
so that a process of pytest, which has made the files, would not do.
"""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

SCRIPTS = Path(__file__).parents[1] / "scripts"
PROCESS = Path("/proc/self")


class Ended(NamedTuple):
    """How a command ended, what it said, and by how many MB it had grown at most."""

    exit_code: int
    stdout: str
    stderr: str
    grown: float


def measured(name: str, *arguments: Any) -> Ended:
    """Run `scripts/NAME.py` in a forked process, in this folder."""
    from tests.fork_server import python

    peak = Path("peak.txt")
    command = [python(), __file__, str(peak), str(SCRIPTS / f"{name}.py"), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    grown = float(peak.read_text())
    peak.unlink()
    return Ended(done.returncode, done.stdout, done.stderr, grown)


def _megabytes(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", (PROCESS / "status").read_text())
    assert found is not None
    return int(found[1]) / 1e3


def main() -> None:
    """Run the script that is named, and write down the peak however it ends."""
    file, script, *arguments = sys.argv[1:]
    place = Path(file).resolve()
    (PROCESS / "clear_refs").write_text("5")  # the peak begins anew
    before = _megabytes("VmRSS")
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        place.write_text(str(_megabytes("VmHWM") - before))


if __name__ == "__main__":
    main()
