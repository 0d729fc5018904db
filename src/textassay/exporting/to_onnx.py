"""An artifact of torch as ONNX, held to what torch computes on real rows."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textassay.artifacts.hallmark import restamp, stamp
from textassay.artifacts.identify import ADAPTER
from textassay.artifacts.kinds import Loaded, load_artifact
from textassay.artifacts.onnx_files import ONNX_FILE
from textassay.artifacts.onnx_model import METADATA, OnnxModel
from textassay.console import counted, say
from textassay.data.prompt import Prompt
from textassay.errors import GateError
from textassay.exporting.card import export_card
from textassay.exporting.graphs.from_torch import export_graph
from textassay.exporting.graphs.fusion import Fused, fuse
from textassay.exporting.graphs.graph import Graph
from textassay.exporting.parity import Parity, logits_in_fresh_process
from textassay.exporting.proof import ProofRows
from textassay.exporting.sources import Shipped
from textassay.files import replacing, sha256_file, write_json, write_text
from textassay.models.classifier import count_vocabulary
from textassay.models.predict import compute_logits
from textassay.models.source import SETTINGS_KEY

# So far may a logit be from torch's; sums in another order are 1e-6 apart.
ALLOWED = 1e-4
# Merging may change so much about an adapter's logits: sums in another order once more.
ALLOWED_MERGED = 1e-3
# So many rows are computed one at a time as well.
ROWS_ALONE = 8
# Rows that the hallmark keeps of an artifact that came without one.
PROBE_ROWS = 16


@dataclass(frozen=True)
class OnnxExport:
    """What was made: how it compares with torch, and the adapter with the merged model."""

    folder: Path
    parity: Parity
    merged: Parity | None
    fused: Fused | None


def write_onnx(shipped: Shipped, target: Path, rows: ProofRows) -> OnnxExport:
    """Export to `target`, which appears only if a fresh process computes what torch does.

    Raises GateError with the figures where it does not.
    """
    model = shipped.plain_model()
    loaded = shipped.loaded
    wanted = _compute_wanted(model, shipped, rows)
    merged = _compare_merged(shipped, wanted, rows)
    with replacing(target) as scratch:
        scratch.mkdir()
        _copy_company(shipped, scratch)
        facts = _metadata(shipped, scratch)
        fused = _write_graph(model, loaded.temperature, scratch, facts, rows, wanted)
        _refuse_other_ids(scratch, loaded, rows)
        parity = _hold_to(scratch, rows, wanted)
        write_json(scratch / "export.json", _record(rows, parity, merged, fused, facts))
        write_text(scratch / "README.md", export_card(scratch, loaded, rows.title, str(parity)))
        _stamp(shipped, scratch, rows)
        found = Parity.of(logits_in_fresh_process(scratch, rows.texts), wanted)
        _refuse(found, target)
    return OnnxExport(target, found, merged, fused)


def _compute_wanted(model: Any, shipped: Shipped, rows: ProofRows) -> np.ndarray:
    """What torch computes for the rows, in batches. GateError where that depends on the batch.

    The shortest rows tell: beside the longest they have the most padding.
    """
    ids, pad = shipped.loaded.ids(rows.texts), shipped.loaded.tokenizer.pad_token_id
    wanted = compute_logits(model, ids, pad)
    shortest = sorted(range(len(ids)), key=lambda row: len(ids[row]))[:ROWS_ALONE]
    alone = compute_logits(model, [ids[row] for row in shortest], pad, batch_size=1)
    found = Parity.of(wanted[shortest], alone)
    if found.largest > ALLOWED_MERGED:
        raise GateError(
            f"{shipped.folder}: what it answers depends on the other texts in a batch ({found} of "
            "the same rows alone), so no graph can be held to it; nothing was written."
        )
    return wanted


def _refuse_other_ids(folder: Path, loaded: Loaded, rows: ProofRows) -> None:
    """GateError where a tokenizer.json by itself reads texts otherwise than the source does."""
    read = OnnxModel(folder).ids(rows.texts)
    for text, found, wanted in zip(rows.texts, read, loaded.ids(rows.texts), strict=True):
        if found != wanted:
            raise GateError(
                f"{folder}: its tokenizer.json reads {text[:60]!r} as "
                f"{counted(len(found), 'token')} that are "
                f"not the {len(wanted)} of its source; nothing was written."
            )


def _compare_merged(shipped: Shipped, wanted: np.ndarray, rows: ProofRows) -> Parity | None:
    """How far merging moved an adapter's logits; a base in 4 bits computes in bf16, so further."""
    if shipped.loaded.kind != ADAPTER:
        return None
    own = shipped.loaded.logits(shipped.loaded.ids(rows.texts))
    found = Parity.of(wanted, own)
    if not shipped.loaded.is_quantized and found.largest > ALLOWED_MERGED:
        raise GateError(
            f"{shipped.folder}: merged into its base it gives other logits ({found}; at most "
            f"{ALLOWED_MERGED} is allowed); nothing was written."
        )
    return found


def _copy_company(shipped: Shipped, folder: Path) -> None:
    """Config, tokenizer and labels, as they lie beside the source."""
    loaded = shipped.loaded
    loaded.tokenizer.save_pretrained(folder)
    config = loaded.model.config
    settings = getattr(config, SETTINGS_KEY, None)
    if settings:
        setattr(config, SETTINGS_KEY, {**settings, "quantization": None})
    config.save_pretrained(folder)
    if (shipped.folder / "label_mapping.json").is_file():
        shutil.copy(shipped.folder / "label_mapping.json", folder)
    else:
        write_json(folder / "label_mapping.json", loaded.labels.to_json())


def _metadata(shipped: Shipped, folder: Path) -> dict[str, Any]:
    """What the file says of itself."""
    loaded = shipped.loaded
    prompt: Prompt | None = loaded.prompt
    return {
        "labels": list(loaded.labels.names),
        "max_length": loaded.max_length,
        "truncation_side": loaded.tokenizer.truncation_side,
        "pad_token_id": loaded.tokenizer.pad_token_id,
        "vocabulary": count_vocabulary(loaded.model),
        "prompt": {"head": prompt.head, "tail": prompt.tail} if prompt else None,
        "temperature": loaded.temperature,
        "tokenizer": sha256_file(folder / "tokenizer.json"),
        "base": shipped.base_facts(),
        "quantization": None,
    }


def _write_graph(
    model: Any, temperature: float, folder: Path, facts: dict[str, Any], rows: ProofRows,
    wanted: np.ndarray,
) -> Fused | None:  # fmt: skip
    """The fused graph, or the plain one where fusing changed what is computed."""
    plain = folder.parent / "plain.onnx"
    say("exporting  torch's graph (seconds for a small model)")
    export_graph(model, temperature, plain)
    try:
        graph, fused = fuse(plain)
        _save(graph, facts, folder)
        _hold_to(folder, rows, wanted)
    except Exception as error:  # of any of three libraries; the plain graph does without them
        say(f"not fused  {error}")
        _save(Graph.load(plain), facts, folder)
        return None
    return fused


def _save(graph: Graph, facts: dict[str, Any], folder: Path) -> None:
    """Write the graph with what a predictor must know; nothing stays of what was there."""
    for path in folder.glob(f"{ONNX_FILE}*"):
        path.unlink()
    graph.describe(METADATA, facts)
    graph.save(folder / ONNX_FILE)


def _hold_to(folder: Path, rows: ProofRows, wanted: np.ndarray) -> Parity:
    session = OnnxModel(folder)
    found = Parity.of(session.logits(session.ids(rows.texts)), wanted)
    _refuse(found, folder)
    return found


def _refuse(found: Parity, folder: Path) -> None:
    if found.largest > ALLOWED or found.other_labels:
        raise GateError(
            f"{folder}: does not compute what torch does: {found}, and at most {ALLOWED} is "
            "allowed; nothing was written."
        )


def _record(
    rows: ProofRows, parity: Parity, merged: Parity | None, fused: Fused | None,
    facts: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    return {
        "rows": rows.title,
        "parity": asdict(parity),
        "merged": asdict(merged) if merged else None,
        "fused": asdict(fused) if fused else None,
        **facts,
    }


def _stamp(shipped: Shipped, folder: Path, rows: ProofRows) -> None:
    loaded = load_artifact(folder)
    if shipped.hallmark is not None:
        restamp(folder, shipped.folder, loaded)
        return
    base = {"name": str(shipped.folder.name), "weights": ""}
    stamp(folder, loaded, rows.texts[-PROBE_ROWS:], base, {}, {}, {})
