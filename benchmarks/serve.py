"""Requests a second and latency of scripts/serve.py against a naive server, on the same machine.

python benchmarks/serve.py RUN --data_path DIR_OR_FILE [--soak MINUTES] [--json FILE]

naive: benchmarks/naive_server.py with RUN/model (a whole model, no adapter), in whichever of its
two styles is faster here. Ours: scripts/serve.py with its defaults, but for --backend and
--cache_size. Load: wrk (Debian's package) with 64 connections, each asking again when it has its
answer; every request holds one text of the data set. The cache is off, but where the row says so:
there every text was asked before. Servers take turns for several rounds; figures are medians over
the rounds, ratios medians of those taken within a round. wrk works on the same cores, beside both.

--soak: so many minutes of requests at 80% of the capacity just found, sent when they are due,
whether or not others are answered; failures, and how the server's memory grows after the first
tenth.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from common import finish
from open_loop import soak

from textassay.console import reports_errors
from textassay.data.columns import find_text_column
from textassay.data.layout import find_splits
from textassay.data.read import read_file, values
from textassay.errors import UsageError

HERE = Path(__file__).parent
CONNECTIONS, WRK_THREADS = 64, 2
PORT = 8377
NAIVE, INT8, ONNX, TORCH, CACHED = "naive", "onnx-int8", "onnx", "torch", "onnx-int8, cached"


def commands(run: Path, style: str) -> dict[str, list[str]]:
    """How each server is started."""
    ours = [sys.executable, str(HERE.parent / "scripts" / "serve.py"), str(run), f"--port={PORT}"]
    naive = [sys.executable, str(HERE / "naive_server.py"), str(run / "model"), str(PORT), style]
    return {
        NAIVE: naive,
        TORCH: [*ours, "--backend=torch", "--cache_size=0"],
        ONNX: [*ours, "--backend=onnx", "--cache_size=0"],
        INT8: [*ours, "--backend=onnx-int8", "--cache_size=0"],
        CACHED: [*ours, "--backend=onnx-int8", "--cache_size=100000"],
    }


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen]:
    """A server that answers, ended afterwards."""
    with log.open("w") as stream, subprocess.Popen(command, stdout=stream, stderr=stream) as server:
        try:
            wait_for_answer(server, log)
            yield server
        finally:
            server.terminate()
            server.wait(timeout=60)


def ask_once() -> None:
    """One request, answered."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/predict",
        json.dumps({"inputs": "warm up"}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60):
        pass


def wait_for_answer(server: subprocess.Popen, log: Path) -> None:
    """Until it answers a text; RuntimeError with its log where it ends instead."""
    while server.poll() is None:
        try:
            ask_once()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the server ended: {log.read_text()[-2000:]}")


def load(bodies: Path, seconds: int) -> dict[str, float]:
    """What wrk measures in so many seconds, after a short run that is not counted."""
    found: dict[str, float] = {}
    for duration in (max(1, seconds // 5), seconds):
        # What wrk gave up at its end may still be computed: who asks now is answered after it.
        ask_once()
        command = ["wrk", f"-t{WRK_THREADS}", f"-c{CONNECTIONS}", f"-d{duration}s", "--timeout=30s",
                   f"-s{HERE / 'wrk_predict.lua'}", f"http://127.0.0.1:{PORT}", "--",
                   str(bodies), str(WRK_THREADS)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
    return {**found, "per_second": found["requests"] / found["seconds"]}


def faster_style(run: Path, bodies: Path, work: Path) -> str:
    """Which way of writing the naive server is the better one on this machine."""
    speeds = {}
    for style in ("def", "async"):
        with running(commands(run, style)[NAIVE], work / "naive.log"):
            speeds[style] = load(bodies, 3)["per_second"]
        print(f"naive server, {style}: {speeds[style]:.0f} requests a second")
    return max(speeds, key=speeds.__getitem__)


def write_bodies(data_path: Path, work: Path) -> Path:
    """One request a line, for every distinct text of a file, or of a directory's train split."""
    file = find_splits(data_path)["train"][0] if data_path.is_dir() else data_path
    rows = read_file(file)
    column = rows.columns[find_text_column(rows.file, list(rows.columns))]
    texts = dict.fromkeys(map(str, values(column)))
    bodies = work / "bodies.jsonl"
    bodies.write_text("".join(json.dumps({"inputs": text}) + "\n" for text in texts))
    print(f"{len(texts):,} distinct texts of {file.name}")
    return bodies


def take_turns(
    servers: dict[str, list[str]], bodies: Path, rounds: int, seconds: int, work: Path
) -> dict[str, list[dict[str, float]]]:
    """What wrk measured of every server in every round."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
    for _ in range(rounds):
        for name, command in servers.items():
            with running(command, work / "server.log"):
                if name == CACHED:  # every text once before
                    load(bodies, seconds)
                found[name].append(load(bodies, seconds))
    return found


def summarise(found: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Medians of every server, and of its ratios to the naive one within each round."""
    summary = {}
    for name, rounds in found.items():
        pairs = list(zip(rounds, found[NAIVE], strict=True))
        summary[name] = {
            **{key: statistics.median(one[key] for one in rounds)
               for key in ("per_second", "p50", "p99")},
            "failed": sum(one["failed"] for one in rounds),
            "times_naive": statistics.median(a["per_second"] / b["per_second"] for a, b in pairs),
            "p99_of_naive": statistics.median(a["p99"] / b["p99"] for a, b in pairs),
        }  # fmt: skip
        print(f"{name:<18} {_line(summary[name])}")
    return summary


def _line(row: dict[str, float]) -> str:
    return (
        f"{row['per_second']:6.0f} requests a second  p50 {1000 * row['p50']:5.0f} ms  "
        f"p99 {1000 * row['p99']:5.0f} ms  {row['times_naive']:5.1f} times naive  "
        f"{row['failed']:.0f} failed"
    )


def long_run(command: list[str], bodies: Path, capacity: float, minutes: float, work: Path) -> Any:
    """`soak` at 80% of the capacity, and a line about it."""
    with running(command, work / "server.log") as server:
        found = soak(PORT, bodies, 0.8 * capacity, minutes, server.pid)
    grew = found["memory_at_the_end"] / found["memory_after_a_tenth"] - 1
    print(
        f"{minutes:g} minutes at {found['per_second']:.0f} a second: {found['requests']:,.0f} "
        f"requests, {found['failed']:.0f} failed, p50 {1000 * found['p50']:.0f} ms, p99 "
        f"{1000 * found['p99']:.0f} ms; memory {found['memory_after_a_tenth'] / 1e6:.0f} MB after "
        f"a tenth, {found['memory_at_the_end'] / 1e6:.0f} MB at the end ({100 * grew:+.1f}%)"
    )
    return found


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--data_path", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--rounds", default=5)
@click.option("--seconds", default=10)
@click.option("--soak", "minutes", type=float, help="minutes at 80% of the capacity")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@reports_errors
def main(
    run: Path, data_path: Path, rounds: int, seconds: int, minutes: float | None,
    json_file: Path | None,
) -> None:  # fmt: skip
    """Alternate all servers for some rounds; then, where it is asked for, the long run."""
    if not shutil.which("wrk"):
        raise UsageError("wrk is not installed; run: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        bodies = write_bodies(data_path, work)
        style = faster_style(run, bodies, work)
        servers = {
            name: command
            for name, command in commands(run, style).items()
            if name in (NAIVE, TORCH) or (run / name.partition(",")[0]).is_dir()
        }
        summary = summarise(take_turns(servers, bodies, rounds, seconds, work))
        ours = next(name for name in (INT8, ONNX, TORCH) if name in summary)
        results: dict[str, Any] = {"naive_style": style, "servers": summary}
        if minutes:
            results["soak"] = long_run(
                servers[ours], bodies, summary[ours]["per_second"], minutes, work
            )
        best = summary[ours]
        finish(
            results,
            f"ratio: {best['times_naive']:.1f} times the naive server's requests a second, "
            f"{best['p99_of_naive']:.2f} of its p99 ({ours})",
            json_file,
        )


if __name__ == "__main__":
    main()
