"""A large CSV from file to tokens: rows a second and peak memory.

python benchmarks/data_scale.py [--rows 1000000] [--json FILE]

Writes a CSV whose rows are shuffled sentences of the project's own sample, then reads, checks,
splits and tokenises it in a fresh process, whose peak resident memory is reported. The bar: one
million rows in under 2 GB.
"""

import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from common import finish

SAMPLE = Path(__file__).parents[1] / "data" / "samples" / "sentiment5_en.csv"
LIMIT_BYTES = 2_000_000_000
WORKER = """
import json, resource, sys, time
from textassay.config.schema import DataSection
from textassay.data.encode import encode
from textassay.data.load import load_dataset
from textassay.models.classifier import load_tokenizer
from textassay.models.source import find_model

started = time.perf_counter()
dataset = load_dataset(DataSection(path=sys.argv[1]))
read = time.perf_counter()
tokenizer = load_tokenizer(str(find_model("sentence-transformers/all-MiniLM-L6-v2").path), 128)
rows = {s: encode(t, tokenizer, dataset.labels, 128, None) for s, t in dataset.splits.items()}
done = time.perf_counter()
print(json.dumps({
    "rows": sum(map(len, rows.values())),
    "tokens": int(sum(r.data["length"].to_numpy().sum() for r in rows.values())),
    "read_seconds": read - started,
    "tokenise_seconds": done - read,
    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
}))
"""


def write_rows(path: Path, rows: int) -> None:
    """A CSV of `rows` rows, no two alike: three sample sentences each, and a number."""
    with SAMPLE.open(encoding="utf-8", newline="") as stream:
        sample = [(row["text"], row["label"]) for row in csv.DictReader(stream)]
    dice = random.Random(0)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for number in range(rows):
            text, label = dice.choice(sample)
            more = " ".join(dice.choice(sample)[0] for _ in range(2))
            writer.writerow([f"{text} {more} {number}", label])


@click.command()
@click.option("--rows", default=1_000_000)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(rows: int, json_file: Path | None) -> None:
    """Measure one file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        started = time.perf_counter()
        write_rows(path, rows)
        print(f"wrote {path.stat().st_size / 1e6:.0f} MB in {time.perf_counter() - started:.0f} s")
        done = subprocess.run(
            [sys.executable, "-c", WORKER, str(path)],
            check=True, stdout=subprocess.PIPE, text=True,
            env={"TEXTASSAY_CACHE": folder, "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
    found = json.loads(done.stdout)
    seconds = (
        f"{found['read_seconds']:.0f} s to read, {found['tokenise_seconds']:.0f} s to tokenise"
    )
    print(f"{found['rows']:,} rows, {found['tokens']:,} tokens: {seconds}")
    ratio = found["peak_bytes"] / LIMIT_BYTES
    line = f"ratio: {found['peak_bytes'] / 1e9:.2f} GB peak, {ratio:.2f} of the 2 GB allowed"
    finish({**found, "ratio": ratio}, line, json_file)


if __name__ == "__main__":
    main()
