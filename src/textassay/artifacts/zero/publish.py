"""A ZeRO checkpoint as an artifact: consolidated, loaded strictly, stamped and verified."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from textassay.artifacts.hallmark import stamp, verify_in_fresh_process
from textassay.artifacts.kinds import Loaded, load_artifact
from textassay.artifacts.merging import publish_merged
from textassay.artifacts.zero.checkpoint import open_checkpoint
from textassay.artifacts.zero.consolidate import SHARD_SIZE, Plan, consolidate, plan_consolidation
from textassay.errors import UsageError
from textassay.files import read_json, replacing
from textassay.models.source import find_model

# What our trainer leaves beside ZeRO's states, so that a hallmark can say where they came from.
HALLMARK_FACTS = "hallmark_facts.json"
# Where nothing says which rows the model should be probed with.
PROBE_TEXTS = (
    "A warm, funny film from start to end.",
    "The room was small and the service slow; we left early.",
    "Shares of the company rose by two per cent after the report.",
    "这家餐厅的服务很好，下次还会再来。",
)


@dataclass(frozen=True)
class Wanted:
    """How a checkpoint is to be written; without a hallmark the model is not even loaded."""

    dtype: torch.dtype = torch.float32
    max_shard_size: int = SHARD_SIZE
    merge: bool = False
    hallmark: bool = True


def plan_artifact(checkpoint: Path, base: str | None) -> Plan:
    """What lies in a checkpoint and what it becomes; `base` is a directory or a hub name.

    Where an adapter names its base and no config lies beside it, the base's config is taken.
    """
    opened = open_checkpoint(checkpoint)
    folder = find_model(base).path if base else None
    plan = plan_consolidation(opened, folder)
    if plan.is_adapter and not any(path.name == "config.json" for path in plan.beside):
        adapter = next(path for path in plan.beside if path.name == "adapter_config.json")
        named = read_json(adapter).get("base_model_name_or_path")
        if named:
            plan = plan_consolidation(opened, find_model(named).path)
    return plan


def consolidate_whole(checkpoint: Path, out: Path) -> None:
    """Weights in fp32, config, tokenizer and labels of a checkpoint of ours, not stamped."""
    consolidate(plan_consolidation(open_checkpoint(checkpoint), None), out)


def publish_consolidated(
    plan: Plan, out: Path, base: str | None, wanted: Wanted, wrote: Callable[[int], None]
) -> str:
    """Write the plan's artifact to `out`, whole or not at all; a sentence on what proves it.

    It is loaded strictly, so that a checkpoint that lacks a weight is refused (GateError), stamped,
    and verified in a fresh process.
    """
    if wanted.merge and not plan.is_adapter:
        raise UsageError(f"--merge: {plan.checkpoint.folder} holds a whole model, not an adapter.")
    if wanted.merge and not wanted.hallmark:
        raise UsageError("--merge is held to the adapter's hallmark; leave out --no_hallmark.")
    with replacing(out) as scratch:
        if wanted.merge:
            with tempfile.TemporaryDirectory(dir=scratch.parent) as beside:
                adapter = Path(beside) / "adapter"
                consolidate(plan, adapter, wrote=wrote)
                _stamp(adapter, plan, base)
                difference = publish_merged(adapter, scratch, base, wanted.dtype)
            return f"logits within {difference:.1e} of the adapter's, verified in a fresh process"
        consolidate(plan, scratch, wanted.dtype, wanted.max_shard_size, wrote)
        return _stamp(scratch, plan, base) if wanted.hallmark else "no hallmark, as asked"


def _stamp(folder: Path, plan: Plan, base: str | None) -> str:
    """Stamp and verify what was written; a sentence on it."""
    loaded = load_artifact(folder, base)
    facts = _facts(plan, loaded)
    texts = list(facts.pop("texts"))
    stamp(folder, loaded, texts, validation={}, **facts)
    verify_in_fresh_process(folder, base)
    return f"{len(texts)} probe rows, verified in a fresh process"


def _facts(plan: Plan, loaded: Loaded) -> dict[str, Any]:
    """What a hallmark says of origin: what our trainer has left, else what can be seen."""
    left = plan.checkpoint.folder.parent / HALLMARK_FACTS
    if left.is_file():
        facts: dict[str, Any] = read_json(left)
        return facts
    source = loaded.base
    base = {"name": source.name, "weights": source.weights_hash()} if source else {}
    return {"texts": PROBE_TEXTS, "base": base, "data": {}, "made_by": {}}
