"""Prediction speed on a CPU, from strings to labels: ours against the transformers pipeline.

python benchmarks/predict_throughput.py RUN [--rounds 5] [--json FILE]

RUN is a finished run with exports in onnx/ and onnx-int8/ (scripts/export.py). On its validation
rows, in their own order:

one by one    the pipeline of transformers, one text a call;
batches of 32 the same with batch_size=32;
torch, onnx, onnx-int8: Classifier, all rows in one call.

The five alternate for several rounds after one to warm up; texts a second, medians, and every
ratio within its own round, since a machine's mood changes. The accuracy on the rows beside each.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import transformers
from common import finish

from textassay import Classifier
from textassay.data.load import load_dataset
from textassay.evaluation.contenders import run_around
from textassay.evaluation.metrics import score
from textassay.evaluation.report import show

Side = Callable[[Sequence[str]], list[str]]
PIPELINES = ("one by one", "batches of 32")


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--rounds", type=int, default=5)
@click.option("--rows", type=int, help="only so many rows [default: all]")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(run: Path, rounds: int, rows: int | None, json_file: Path | None) -> None:
    """Measure, and print a table of speeds, ratios and accuracies."""
    stored = run_around(run / "model")
    assert stored is not None, f"{run} is no run"
    table = load_dataset(stored.data).splits["validation"].slice(0, rows)
    texts, truth = table["text"].to_pylist(), table["label"].to_pylist()
    sides = _sides(run)
    labels = {name: side(texts) for name, side in sides.items()}  # warms up, too
    speeds = _measure(sides, texts, rounds)
    for name, found in speeds.items():
        ratios = [f"{_ratio(found, speeds[other]):5.1f} x {other}" for other in PIPELINES]
        print(
            f"{name:<14}{statistics.median(found):7.0f} texts a second  {', '.join(ratios)}  "
            f"accuracy {_accuracy(truth, labels[name])}  rounds {[round(x) for x in found]}"
        )
    ratios = {name: {other: _ratio(found, speeds[other]) for other in PIPELINES}
              for name, found in speeds.items()}  # fmt: skip
    first, second = (ratios["onnx-int8"][other] for other in PIPELINES)
    floating = ratios["onnx"][PIPELINES[1]]
    line = (
        f"INT8 is {first:.1f} times the pipeline one by one, {second:.1f} times it in batches of "
        f"32, ONNX in floating point {floating:.1f} times the latter; {len(texts)} rows"
    )
    finish({"rows": len(texts), "speeds": speeds, "ratios": ratios}, line, json_file)


def _sides(run: Path) -> dict[str, Side]:
    pipeline: Any = transformers.pipeline("text-classification", str(run / "model"), device="cpu")
    sides: dict[str, Side] = {
        "one by one": lambda texts: [pipeline(text)[0]["label"] for text in texts],
        "batches of 32": lambda texts: [one["label"] for one in pipeline(texts, batch_size=32)],
    }
    for name, folder in (("torch", "model"), ("onnx", "onnx"), ("onnx-int8", "onnx-int8")):
        classifier = Classifier.load(run / folder, device="cpu")
        sides[name] = _labels_of(classifier)
    return sides


def _labels_of(classifier: Classifier) -> Side:
    names = classifier.labels
    return lambda texts: [names[index] for index in classifier.predict_proba(texts).argmax(1)]


def _measure(sides: dict[str, Side], texts: list[str], rounds: int) -> dict[str, list[float]]:
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            side(texts)
            speeds[name].append(len(texts) / (time.perf_counter() - start))
    return speeds


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _accuracy(truth: list[str], found: list[str]) -> str:
    """With its interval; of labels that are no logits."""
    names = sorted({*truth, *found})
    ids, predicted = (np.array([names.index(name) for name in one]) for one in (truth, found))
    return show(score(ids, np.eye(len(names))[predicted])["accuracy"])


if __name__ == "__main__":
    main()
