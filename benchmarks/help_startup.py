"""How fast every script answers `--help`, against the start of a bare Python.

python benchmarks/help_startup.py [--json FILE]
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import click
from common import finish

SCRIPTS = sorted((Path(__file__).parents[1] / "scripts").glob("*.py"))


def seconds(command: list[str]) -> float:
    """Wall time of one process."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


@click.command()
@click.option("--rounds", default=15)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(rounds: int, json_file: Path | None) -> None:
    """Alternate all of them; medians."""
    commands = {"bare": [sys.executable, "-c", "pass"]}
    commands |= {path.name: [sys.executable, str(path), "--help"] for path in SCRIPTS}
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            found[name].append(seconds(command))
    medians = {name: statistics.median(times) for name, times in found.items()}
    for name, median in medians.items():
        print(f"{name:<16} {median * 1000:5.0f} ms  {median / medians['bare']:.1f} times bare")
    worst = max(medians.values()) / medians["bare"]
    finish({"seconds": medians, "ratio": worst}, f"ratio: {worst:.1f} times a bare Python",
           json_file)  # fmt: skip


if __name__ == "__main__":
    main()
