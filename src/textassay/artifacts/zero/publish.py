"""A ZeRO checkpoint as an artifact: consolidated, loaded strictly, stamped and verified."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from textassay.artifacts.hallmark import stamp, verify_in_fresh_process
from textassay.artifacts.identify import ADAPTER_CONFIG
from textassay.artifacts.kinds import Loaded, load_artifact
from textassay.artifacts.merging import publish_merged
from textassay.artifacts.zero.checkpoint import open_checkpoint
from textassay.artifacts.zero.consolidate import (
    HALLMARK_FACTS,
    SHARD_SIZE,
    Plan,
    consolidate,
    object_in,
    plan_consolidation,
)
from textassay.console import counted
from textassay.errors import DataError, GateError, UsageError
from textassay.files import replacing
from textassay.links import refuse_link
from textassay.models.source import find_model

FACTS = {"texts": list, "base": dict, "data": dict, "made_by": dict}
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
        adapter = next(path for path in plan.beside if path.name == ADAPTER_CONFIG)
        config = object_in(adapter, f"{adapter}: is not a JSON object; mend it.")
        named = config.get("base_model_name_or_path")
        if named:
            found = find_model(str(named), config.get("revision"))
            plan = plan_consolidation(opened, found.path)
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
                difference = publish_merged(
                    adapter, scratch, base, wanted.dtype, wanted.max_shard_size
                )
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
    return f"{counted(len(texts), 'probe row')}, verified in a fresh process"


def _facts(plan: Plan, loaded: Loaded) -> dict[str, Any]:
    """What a hallmark says of origin: what our trainer has left, else what can be seen.

    GateError where the base is another one than the trainer's.
    """
    source = loaded.base
    base = source.describe() if source else {}
    left = facts_beside(plan.checkpoint.folder)
    if left is None:
        return {"texts": PROBE_TEXTS, "base": base, "data": {}, "made_by": {}}
    refuse_other_base(loaded, left)
    return left


def facts_beside(step_folder: Path) -> dict[str, Any] | None:
    """What our trainer has left beside ZeRO's states; None for a checkpoint of somebody else's.

    Raises DataError where the file is not what it writes.
    """
    path = step_folder.parent / HALLMARK_FACTS
    refuse_link(path, step_folder.parent)
    if not path.is_file():
        return None
    content = object_in(path, f"{path}: is not a JSON object; mend it.")
    found = {name: content.get(name) for name in FACTS}
    texts = found["texts"]
    good = all(isinstance(found[name], kind) for name, kind in FACTS.items())
    if not good or not all(isinstance(text, str) for text in texts or []):
        raise DataError(f"{path}: is not what a run writes; take it away to go on without it.")
    return found


def refuse_other_base(loaded: Loaded, facts: dict[str, Any]) -> None:
    """GateError where an adapter lies on another base than it was trained on."""
    trained_on = facts["base"].get("weights")
    if loaded.base and trained_on and loaded.base.weights_hash() != trained_on:
        raise GateError(
            f"the base {loaded.base.name} ({loaded.base.origin}) is not the one that the adapter "
            "was trained on (its weights have another hash); name the right one with "
            "--base_model_path."
        )
