"""A file of any length predicted in the same memory: peak resident bytes and rows a second.

python benchmarks/predict_memory.py MODEL [--rows 1000000] [--format csv] [--json FILE]

MODEL is any artifact: the smaller it is, the more of the time is reading and writing. Predicts a
fiftieth of the rows, then all of them, each in a process of its own, with `scripts/predict.py`.
The bar: the peak of all rows is at most 1.25 times that of the fiftieth.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from common import finish
from data_scale import write_rows

# The peak as the kernel counts it for this program alone; getrusage would begin with the parent's.
WORKER = """
import re, runpy, sys
from pathlib import Path
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
    print("peak", peak)
"""
SCRIPT = Path(__file__).parents[1] / "scripts" / "predict.py"
LIMIT = 1.25


def predict(model: str, source: Path) -> dict[str, float]:
    """Seconds and peak bytes of one whole command."""
    output = source.with_name(f"answers{source.suffix}")
    worker = WORKER.replace("sys.argv[0]", repr(str(SCRIPT)))
    command = [sys.executable, "-c", worker, model, "--input", str(source), "--output", str(output)]
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"predict.py ended with {done.returncode}")
    peak = int(done.stdout.split()[-1]) * 1024
    return {"seconds": time.perf_counter() - started, "peak_bytes": peak}


def make_file(folder: Path, rows: int, form: str) -> Path:
    """`rows` rows of the sample in one of the formats."""
    path = folder / f"rows.{form}"
    written = folder / "rows.csv"
    write_rows(written, rows)
    if form == "parquet":
        pa.parquet.write_table(pa.csv.read_csv(written), path)
    elif form == "jsonl":
        pa.csv.read_csv(written).to_pandas().to_json(
            path, orient="records", lines=True, force_ascii=False
        )
    return path


@click.command()
@click.argument("model")
@click.option("--rows", default=1_000_000)
@click.option("--format", "form", type=click.Choice(["csv", "jsonl", "parquet"]), default="csv")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(model: str, rows: int, form: str, json_file: Path | None) -> None:
    """Predict a fiftieth of ROWS rows, then all of them."""
    results = {}
    for count in (rows // 50, rows):
        with tempfile.TemporaryDirectory() as folder:
            results[str(count)] = predict(model, make_file(Path(folder), count, form))
    few, all_rows = results[str(rows // 50)], results[str(rows)]
    ratio = all_rows["peak_bytes"] / few["peak_bytes"]
    rate = (rows - rows // 50) / (all_rows["seconds"] - few["seconds"])
    line = (
        f"{rows:,} rows ({form}): {rate:,.0f} rows a second, peak "
        f"{all_rows['peak_bytes'] / 1e6:,.0f} MB against {few['peak_bytes'] / 1e6:,.0f} MB for a "
        f"fiftieth: {ratio:.2f} times (at most {LIMIT})"
    )
    finish({"runs": results, "ratio": ratio, "rows_a_second": rate}, line, json_file)
    raise SystemExit(0 if ratio <= LIMIT else 1)


if __name__ == "__main__":
    main()
