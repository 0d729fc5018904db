"""From an artifact to what is shipped: merged, ONNX, or ONNX in INT8."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from textassay.artifacts.hallmark import FILE, read_hallmark
from textassay.artifacts.identify import ADAPTER
from textassay.artifacts.merging import publish_merged
from textassay.artifacts.onnx_files import ONNX, ONNX_INT8
from textassay.config.schema import DataSection
from textassay.console import counted, out, say, table, tell
from textassay.errors import UsageError
from textassay.evaluation.metrics import score
from textassay.evaluation.report import show
from textassay.exporting.graphs.int8 import Int8
from textassay.exporting.parity import Parity, logits_in_fresh_process
from textassay.exporting.proof import (
    ProofRows,
    find_proof_rows,
    leave_out_training_rows,
    refuse_other_labels,
    with_cut_text,
)
from textassay.exporting.sources import Shipped, open_shipped, refuse_target, usual_target
from textassay.exporting.to_int8 import HEAD, Int8Export, write_int8
from textassay.exporting.to_onnx import OnnxExport, write_onnx
from textassay.files import sha256_file

MERGED = "merged"
FORMS = (MERGED, ONNX, ONNX_INT8)


@dataclass(frozen=True)
class Wanted:
    """What to make of which artifact; None takes what is usual."""

    model: str
    to: str
    output_dir: Path | None = None
    base: str | None = None
    data: DataSection | None = None
    int8: Int8 = field(default_factory=Int8)
    accept_unproven: bool = False
    save_bin: bool = False
    force: bool = False


def export(wanted: Wanted) -> None:
    """Make it, verify it in a fresh process, and say what came of it.

    Raises UsageError, DataError or GateError, and nothing is written then.
    """
    shipped = open_shipped(wanted.model, wanted.base)
    target = wanted.output_dir or usual_target(shipped.folder, wanted.to)
    refuse_target(target, wanted.force)
    say(f"what       {shipped.loaded.kind}: {shipped.folder}")
    rows = with_cut_text(
        find_proof_rows(shipped.folder, shipped.hallmark, wanted.data), shipped.loaded
    )
    say(f"rows       {rows.title}: {len(rows.texts)} to compare logits on")
    if wanted.to == MERGED:
        _merge(shipped, target, rows, wanted.save_bin)
    elif wanted.to == ONNX:
        _refuse_onnx(shipped)
        _tell_onnx(write_onnx(shipped, target, rows))
    else:
        rows = leave_out_training_rows(rows, shipped.training_rows())
        if rows.training_note:
            say(f"judges     {rows.training_note}")
        source = _floating_point(shipped, target, rows)
        _tell_int8(write_int8(source, target, rows, wanted.int8, wanted.accept_unproven))


def _merge(shipped: Shipped, target: Path, rows: ProofRows, save_bin: bool) -> None:
    if shipped.loaded.kind != ADAPTER:
        raise UsageError(
            f"--to merged: {shipped.folder} is no adapter ({shipped.loaded.kind}), so there is "
            "nothing to merge it with; it answers as it is."
        )
    publish_merged(shipped.folder, target, shipped.base, save_bin=save_bin, texts=rows.texts)
    own = shipped.loaded.logits(shipped.loaded.ids(rows.texts))
    merged = logits_in_fresh_process(target, rows.texts)
    tell(f"merged     {target} ({Parity.of(merged, own)} with the adapter's)")
    if rows.validation is not None and shipped.loaded.is_quantized:
        _tell_dequantised(shipped, target, rows)


def _tell_dequantised(shipped: Shipped, target: Path, rows: ProofRows) -> None:
    """What dequantising changed about the scores, on all labelled rows."""
    assert rows.validation is not None
    labels = shipped.loaded.labels
    refuse_other_labels(rows.validation, list(labels.names), rows.title)
    texts = rows.validation["text"].to_pylist()
    truth = np.array(labels.ids(rows.validation["label"].to_pylist()))
    found = {
        "adapter on 4 bits": shipped.loaded.logits(shipped.loaded.ids(texts)),
        "merged": logits_in_fresh_process(target, texts),
    }
    lines = []
    for name, logits in found.items():
        scores = score(truth, logits)
        lines.append([name, show(scores["accuracy"]), show(scores["macro_f1"])])
    title = f"{rows.title}, {counted(len(texts), 'row')}, 95% intervals"
    out().print(table(title, ["", "accuracy", "macro-F1"], lines))


def _refuse_onnx(shipped: Shipped) -> None:
    if shipped.loaded.kind in (ONNX, ONNX_INT8):
        raise UsageError(f"{shipped.folder}: is {shipped.loaded.kind} already.")


def _floating_point(shipped: Shipped, target: Path, rows: ProofRows) -> Path:
    """The ONNX artifact that INT8 is made from: the given one, the run's, or a new one."""
    if shipped.loaded.kind == ONNX:
        if shipped.loaded.model.settings.is_foreign:
            raise UsageError(
                f"{shipped.folder}: its graph was not exported by textassay, so what is in it is "
                "not known; make INT8 of the classifier in torch (safetensors)."
            )
        return shipped.folder
    _refuse_onnx(shipped)
    beside = target.parent / ONNX if target.name == ONNX_INT8 else Path(f"{target}-float")
    stamped = read_hallmark(beside) if beside.is_dir() else None
    own = sha256_file(shipped.folder / FILE) if shipped.hallmark else None
    if stamped is not None and own is not None and stamped["made_from"] == own:
        say(f"onnx       made before: {beside}")
        return beside
    refuse_target(beside, force=False)
    _tell_onnx(write_onnx(shipped, beside, rows))
    return beside


def _tell_onnx(made: OnnxExport) -> None:
    fused = made.fused
    how = f"{fused.attention} attentions fused" if fused else "not fused"
    early = ", one position computed behind the last" if fused and fused.pooled_early else ""
    tell(f"onnx       {made.folder} ({made.parity}; {how}{early})")
    if made.merged:
        tell(f"merged     in memory: {made.merged} with the adapter's")


def _tell_int8(made: Int8Export) -> None:
    kept = len(made.found.in_float)
    products = kept + len(made.found.in_int8)
    tell(f"onnx-int8  {made.folder} ({kept} of {products} products kept in floating point)")
    tell(f"verdict    {made.verdict}")
    rows = f"{counted(made.verdict.rows, 'row')}, 95% intervals"
    out().print(table(rows, HEAD, [row.cells() for row in made.table]))
