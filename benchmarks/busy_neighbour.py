"""Training alone, beside one and beside two busy processes: OpenMP's own waiting against ours.

python benchmarks/busy_neighbour.py [--repeats 3] [--steps 40]

A run of scripts/train_lora.py on sample rows, in turn as OpenMP waits by itself (GOMP_SPINCOUNT at
its default, which the run obeys) and as the run settles it (src/textassay/threads.py). A neighbour
is a process that only counts. Prints samples a second, the median of the repeats, and the ratios.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from common import machine

from textassay.files import project_root, read_json

# What libgomp does where OMP_WAIT_POLICY is not set.
AS_IT_COMES = {"GOMP_SPINCOUNT": "300000"}
WAYS = {"OpenMP's own": AS_IT_COMES, "settled": {}}


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that keep a CPU busy each."""
    counting = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(counting) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def samples_per_second(steps: int, variables: dict[str, str]) -> float:
    """Of one run's training loop."""
    clean = {name: value for name, value in os.environ.items()
             if not name.startswith(("OMP_", "GOMP_", "TEXTASSAY_"))}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [
            sys.executable, str(project_root() / "scripts" / "train_lora.py"),
            "--data_name=sentiment5_en", f"--max_steps={steps}", "--baselines=false",
            "--eval_strategy=steps", f"--eval_steps={steps}", "--save_strategy=steps",
            f"--save_steps={steps}", "--bootstrap_samples=100", f"--output_dir={out}",
        ]  # fmt: skip
        subprocess.run(command, env={**clean, "HF_HUB_OFFLINE": "1", **variables}, check=True,
                       capture_output=True)  # fmt: skip
        return float(read_json(out / "train_results.json")["train_samples_per_second"])


@click.command()
@click.option("--repeats", default=3)
@click.option("--steps", default=40)
def main(repeats: int, steps: int) -> None:
    """Print one row for each number of neighbours."""
    print(machine())
    alone: dict[str, float] = {}
    print("| neighbours | " + " | ".join(f"{way}, samples/s" for way in WAYS)
          + " | settled / own | settled / alone |")  # fmt: skip
    print("| --- " * (len(WAYS) + 3) + "|")
    for count in (0, 1, 2):
        taken: dict[str, list[float]] = {way: [] for way in WAYS}
        with neighbours(count):
            for _ in range(repeats):
                for way, variables in WAYS.items():
                    taken[way].append(samples_per_second(steps, variables))
        medians = {way: statistics.median(values) for way, values in taken.items()}
        alone = alone or medians
        own, settled = medians.values()
        print(f"| {count} | {own:.1f} | {settled:.1f} | {settled / own:.2f} | "
              f"{settled / alone['settled']:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
