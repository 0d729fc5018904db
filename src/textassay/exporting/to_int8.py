"""An ONNX artifact in INT8: smaller and faster, and refused where it loses what it should not."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from textassay.artifacts.company import COMPANY, copy_known
from textassay.artifacts.hallmark import restamp
from textassay.artifacts.kinds import Loaded, load_artifact
from textassay.artifacts.onnx_files import INT8_FILE, ONNX_FILE
from textassay.artifacts.onnx_model import METADATA, OnnxModel
from textassay.artifacts.weights import weight_bytes
from textassay.console import counted
from textassay.data.split import sample
from textassay.errors import GateError, UsageError
from textassay.evaluation.evaluate import stamped_figures
from textassay.evaluation.markdown import plain_markdown
from textassay.evaluation.metrics import Score, score
from textassay.evaluation.report import show
from textassay.evaluation.speed import texts_per_second
from textassay.exporting.card import export_card
from textassay.exporting.graphs.graph import Graph
from textassay.exporting.graphs.int8 import ALPHA, Int8, measure_ranges, quantizable, quantize
from textassay.exporting.int8_search import Found, Search
from textassay.exporting.parity import Parity, logits_in_fresh_process
from textassay.exporting.proof import ProofRows, refuse_other_labels
from textassay.exporting.verdict import Verdict, judge, refuse, refuse_few
from textassay.files import replacing, write_json, write_text
from textassay.models.processor import int8_flags

RANGE_ROWS = 256
SEARCH_ROWS = 1024
SPEED_ROWS = 256
SEED = 0
# The same file in another process on the same machine.
ALLOWED = 1e-3


@dataclass(frozen=True)
class Row:
    """One line of the table: a form of the classifier, in bytes, texts a second, and scores."""

    name: str
    size: int
    speed: float
    accuracy: Score
    macro_f1: Score

    def cells(self) -> list[str]:
        """The line for people."""
        return [self.name, f"{self.size / 1e6:.1f} MB", f"{self.speed:.0f}", show(self.accuracy),
                show(self.macro_f1)]  # fmt: skip


HEAD = ["", "size", "texts a second", "accuracy", "macro-F1"]


@dataclass(frozen=True)
class Int8Export:
    """What was made, the verdict on it, and the table of size, speed and accuracy."""

    folder: Path
    found: Found
    verdict: Verdict
    table: list[Row]


def write_int8(
    source: Path, target: Path, rows: ProofRows, how: Int8, accept_unproven: bool
) -> Int8Export:
    """Quantise the ONNX artifact in `source` into `target`.

    Which products stay in floating point is found on training rows; the verdict is that of the
    validation rows. Raises GateError, with the figures, where it is refused or a fresh process
    computes something else, UsageError without labelled rows.
    """
    searching, judging = _two_sets(rows, source)
    refuse_few(len(judging), accept_unproven)
    floating = load_artifact(source)
    for table in (searching, judging):
        refuse_other_labels(table, list(floating.labels.names), rows.title)
    with replacing(target) as scratch:
        copy_known(source, scratch, COMPANY)
        found = _write_graph(source, scratch, floating, searching, how)
        quantized = load_artifact(scratch)
        texts = judging["text"].to_pylist()
        truth = np.array(floating.labels.ids(judging["label"].to_pylist()))
        before, after = (one.logits(one.ids(texts)) for one in (floating, quantized))
        verdict = judge(truth, before.argmax(1), after.argmax(1), len(floating.labels))
        refuse(verdict, accept_unproven)
        compared = _table(source, scratch, truth, {"onnx": before, "onnx-int8": after}, texts)
        _describe(scratch, quantized, rows, verdict, compared)
        validation = stamped_figures(len(truth), {"macro_f1": compared[1].macro_f1})
        restamp(scratch, source, load_artifact(scratch), validation)
        sampled = rows.texts
        fresh = Parity.of(
            logits_in_fresh_process(scratch, sampled), quantized.logits(quantized.ids(sampled))
        )
        if fresh.largest > ALLOWED:
            raise GateError(f"{target}: a fresh process computes something else: {fresh}.")
    return Int8Export(target, found, verdict, compared)


def _two_sets(rows: ProofRows, source: Path) -> tuple[pa.Table, pa.Table]:
    """Rows to choose on and rows to judge on, which are others."""
    if rows.validation is None:
        raise UsageError(
            f"{source}: INT8 is judged on labelled rows, and none are known; name them with "
            "--data_path."
        )
    if rows.train is not None:
        return sample(rows.train, SEARCH_ROWS, SEED), rows.validation
    mixed = np.random.default_rng(SEED).permutation(len(rows.validation))
    half = len(mixed) // 2
    first, second = (rows.validation.take(part) for part in (mixed[:half], mixed[half:]))
    return first.slice(0, SEARCH_ROWS), second


def _write_graph(
    source: Path, folder: Path, floating: Loaded, searching: pa.Table, how: Int8
) -> Found:
    """Write the quantised graph; what was found on the rows for searching."""
    ids = floating.ids(searching["text"].to_pylist())
    truth = np.array(floating.labels.ids(searching["label"].to_pylist()))
    graph, scratch = Graph.load(source / ONNX_FILE), folder.parent / "trial.onnx"
    ranges = measure_ranges(graph, ids[:RANGE_ROWS], scratch)
    names = quantizable(graph, ranges)
    if not names:
        raise GateError(f"{source}: has no products that can be computed in INT8.")
    search = Search(
        source / ONNX_FILE, names, ranges, how, ids, truth, len(floating.labels),
        floating.tokenizer.pad_token_id, scratch,
    )  # fmt: skip
    found = search.run()
    quantize(graph, found.in_int8, ranges, how)
    facts = {**graph.description(METADATA), "quantization": _record(found, how)}
    graph.describe(METADATA, facts)
    graph.save(folder / INT8_FILE)
    return found


def _record(found: Found, how: Int8) -> dict[str, Any]:
    """How it was quantised, for the file's metadata and the hallmark."""
    return {
        "mode": "static" if how.static else "dynamic",
        "activations": "one scale, measured" if how.static else "a scale for each position",
        "weights": f"{7 if how.reduce_range else 8} bits, a scale for each channel",
        "smoothing": ALPHA,
        "products in INT8": len(found.in_int8),
        "kept in floating point": found.in_float,
    }


def _table(
    source: Path, folder: Path, truth: np.ndarray, logits: dict[str, np.ndarray], texts: list[str]
) -> list[Row]:
    """Floating point and INT8 beside each other; speeds measured alternately."""
    folders = {"onnx": source, "onnx-int8": folder}
    models = {name: OnnxModel(where) for name, where in folders.items()}
    speeds = texts_per_second(
        {name: partial(_answer, model) for name, model in models.items()}, texts[:SPEED_ROWS]
    )
    rows = []
    for name in models:
        scores = score(truth, logits[name])
        size = weight_bytes(folders[name])
        rows.append(Row(name, size, speeds[name], scores["accuracy"], scores["macro_f1"]))
    return rows


def _answer(model: OnnxModel, texts: Sequence[str]) -> np.ndarray:
    return model.logits(model.ids(texts))


def _describe(
    folder: Path, quantized: Loaded, rows: ProofRows, verdict: Verdict, table: list[Row]
) -> None:
    """`export.json` and the card."""
    record: dict[str, Any] = {
        "rows": rows.title,
        "training rows": rows.training_note,
        "verdict": asdict(verdict),
        "table": [asdict(row) for row in table],
        "cpu": int8_flags(),
        "quantization": quantized.model.settings.quantization,
    }
    write_json(folder / "export.json", record)
    lines = [HEAD, ["---"] * len(HEAD), *(row.cells() for row in table)]
    markdown = [f"| {' | '.join(cells)} |" for cells in lines]
    kept = len(record["quantization"]["kept in floating point"])
    flags = ", ".join(int8_flags())
    note = plain_markdown(rows.training_note)
    said = f"{note} Kept in floating point: {kept} products. CPU: {flags}."
    markdown += ["", said]
    write_text(
        folder / "README.md",
        export_card(
            folder,
            quantized,
            f"{rows.title} ({counted(verdict.rows, 'row')})",
            str(verdict),
            markdown,
        ),
    )
