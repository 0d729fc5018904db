"""From a ZeRO checkpoint to weights that anything can load, a shard at a time."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from textassay.artifacts.zero import ZeroCheckpoint
from textassay.errors import DataError, UsageError
from textassay.files import read_json, replacing, write_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMG]?)B?$", re.IGNORECASE)
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
ADAPTER_CONFIG = "adapter_config.json"
RECORD = "consolidation.json"
# What PEFT puts between a module and its adapter's tensors, and leaves out when it saves.
ADAPTER_NAME = re.compile(r"\.default(?=\.|$)")
COPIED = (
    "config.json", ADAPTER_CONFIG, "generation_config.json", "label_mapping.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
    "vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json", "chat_template.jinja",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What a checkpoint becomes: names and shapes of its tensors, and the files beside them."""

    checkpoint: ZeroCheckpoint
    stem: str
    beside: list[Path]

    @property
    def is_adapter(self) -> bool:
        """Whether the checkpoint holds an adapter and not a whole model."""
        return self.stem == "adapter_model"

    def describe(self) -> str:
        """What is there, in lines for the terminal."""
        found = self.checkpoint
        kind = "adapter" if self.is_adapter else "model"
        frozen = f", {len(found.frozen)} frozen" if found.frozen else ""
        lines = [
            f"checkpoint {found.folder}",
            f"format     ZeRO stage {found.stage}, {found.world_size} ranks",
            f"holds      {kind}: {len(found.trained)} trained tensors{frozen}, "
            f"{found.numel():,} trained parameters",
            f"beside     {', '.join(path.name for path in self.beside)}",
        ]
        return "\n".join(lines)


def plan_consolidation(checkpoint: ZeroCheckpoint, base_model_path: Path | None) -> Plan:
    """Find config, tokenizer and labels: in `checkpoint-N/`, in the run above it, or in the base.

    Raises UsageError where there is no config, DataError where a tensor is empty or is not there.
    """
    step = checkpoint.folder.parent
    places = [step, step.parent, *([base_model_path] if base_model_path else [])]
    beside = [found for name in COPIED if (found := _first(places, name))]
    names = {path.name for path in beside}
    holds_adapter = any(
        placed.name.startswith("base_model.model.") for placed in checkpoint.trained
    )
    wanted = ADAPTER_CONFIG if holds_adapter else "config.json"
    if wanted not in names:
        raise UsageError(
            f"{step}: has no {wanted}, without which nobody knows what the weights mean; name a "
            "directory that has it with --base_model_path."
        )
    empty = [placed.name for placed in checkpoint.trained if placed.numel == 0]
    if empty:
        raise DataError(f"{checkpoint.folder}: the parameter {empty[0]} has no elements.")
    if checkpoint.frozen and not checkpoint.stored_frozen and not holds_adapter:
        raise DataError(
            f"{checkpoint.folder}: {len(checkpoint.frozen)} frozen parameters are recorded and not "
            f"stored, {next(iter(checkpoint.frozen))} among them, so the model would not be whole."
        )
    return Plan(checkpoint, "adapter_model" if holds_adapter else "model", beside)


def refuse_target(checkpoint: Path, base: Path | None, out: Path, force: bool) -> None:
    """UsageError where `out` would replace something else than what a consolidation has made.

    That takes `force`.
    """
    for named in filter(None, (checkpoint, base)):
        if named.resolve().is_relative_to(out.resolve()):
            raise UsageError(f"{out}: would replace {named}; name another directory.")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (force and (out / RECORD).is_file()):
        raise UsageError(
            f"{out}: is there already; name another directory, or add --force to replace what a "
            "consolidation has made."
        )


def consolidate(plan: Plan, out: Path, dtype: torch.dtype, max_shard_size: int) -> list[Path]:
    """Write safetensors shards of at most `max_shard_size` bytes with an index, and what is beside.

    No more than about two shards are in memory. The directory appears whole or not at all; the
    shards' paths are returned.
    """
    with replacing(out) as scratch:
        scratch.mkdir(parents=True)
        shards = _write_shards(plan, scratch, dtype, max_shard_size)
        for path in plan.beside:
            shutil.copyfile(path, scratch / path.name)
        name = str(dtype)[len("torch.") :]
        if not plan.is_adapter:
            config = _config_of(scratch / "config.json")
            write_json(scratch / "config.json", {**config, "dtype": name})
        found = plan.checkpoint
        write_json(scratch / RECORD, {
            "checkpoint": str(found.folder), "zero_stage": found.stage,
            "world_size": found.world_size, "dtype": name,
        })  # fmt: skip
    return [out / shard.name for shard in shards]


def _config_of(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise DataError(f"{path.name}: beside the checkpoint is no model config; mend it.")
    return content


def parse_size(text: str) -> int:
    """Bytes for `5GB`, `200MB`, `1000`. UsageError for anything else."""
    match = SIZE.match(text.strip())
    if not match or not float(match[1]):
        raise UsageError(f"--max_shard_size: {text!r} is no size such as 5GB or 200MB.")
    return int(float(match[1]) * UNITS[match[2].upper()])


def saved_tensors(
    plan: Plan, dtype: torch.dtype, bytes_at_once: int
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor under the name that it is saved by; tied ones stand there once."""
    frozen = plan.checkpoint.frozen
    for name, tensor in plan.checkpoint.tensors(bytes_at_once):
        if plan.is_adapter and name in frozen:
            continue  # the base's
        if plan.is_adapter:
            name = ADAPTER_NAME.sub("", name.replace(".modules_to_save.default.", "."))
            name = name.replace("lora_magnitude_vector.weight", "lora_magnitude_vector")
        yield name, _as_dtype(name, tensor, dtype)


def _as_dtype(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor in that dtype, if it is of numbers that can be. DataError where one overflows."""
    if not tensor.is_floating_point():
        return tensor
    made = tensor.to(dtype)
    if bool((made.isinf() & tensor.isfinite()).any()):
        raise DataError(
            f"{name}: holds a number of {float(tensor.abs().max()):.4g}, which is too large for "
            f"{dtype}; use --dtype bfloat16 or float32."
        )
    return made


def _write_shards(plan: Plan, folder: Path, dtype: torch.dtype, limit: int) -> list[Path]:
    parts: list[Path] = []
    index: dict[str, int] = {}
    held: dict[str, torch.Tensor] = {}
    total = size = 0

    def write() -> None:
        parts.append(folder / f"part-{len(parts)}")
        save_file(held, parts[-1], metadata={"format": "pt"})
        held.clear()

    if plan.is_adapter:  # PEFT reads one file
        limit = max(limit, 4 * plan.checkpoint.numel())
    for name, tensor in saved_tensors(plan, dtype, limit):
        bytes_of = tensor.numel() * tensor.element_size()
        if held and size + bytes_of > limit:
            write()
            size = 0
        held[name] = tensor.contiguous()
        index[name] = len(parts)
        size += bytes_of
        total += bytes_of
    write()
    return _name_shards(parts, index, total, plan.stem)


def _name_shards(parts: list[Path], index: dict[str, int], total: int, stem: str) -> list[Path]:
    """Give the parts the names that transformers looks for, now that their number is known."""
    folder, count = parts[0].parent, len(parts)
    if count == 1:
        return [parts[0].rename(folder / f"{stem}.safetensors")]
    shards = [part.rename(folder / f"{stem}-{number + 1:05}-of-{count:05}.safetensors")
              for number, part in enumerate(parts)]  # fmt: skip
    weight_map = {name: shards[number].name for name, number in sorted(index.items())}
    content = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(content, indent=2) + "\n")
    return shards


def _first(places: list[Path], name: str) -> Path | None:
    return next((place / name for place in places if (place / name).is_file()), None)
