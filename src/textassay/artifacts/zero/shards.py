"""Safetensors shards with the names and the index that transformers and PEFT look for."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from textassay.artifacts.zero.stream import Entry, nobody, write_safetensors


def write_shards(
    entries: Sequence[Entry], folder: Path, stem: str, limit: int | None,
    wrote: Callable[[int], None] = nobody,
) -> list[Path]:  # fmt: skip
    """Write `stem`.safetensors, or shards of at most `limit` bytes and their index.

    A tensor above the limit has a shard of its own. `wrote` is told each tensor's bytes.
    """
    parts = _split(entries, limit)
    shards = [folder / name for name in _names(stem, len(parts))]
    for shard, part in zip(shards, parts, strict=True):
        write_safetensors(shard, part, wrote)
    if len(shards) > 1:
        weight_map = {entry.name: shard.name for shard, part in zip(shards, parts, strict=True)
                      for entry in part}  # fmt: skip
        total = sum(entry.nbytes for entry in entries)
        content = {
            "metadata": {"total_size": total},
            "weight_map": dict(sorted(weight_map.items())),
        }
        index = folder / f"{stem}.safetensors.index.json"
        index.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return shards


def _split(entries: Sequence[Entry], limit: int | None) -> list[list[Entry]]:
    parts: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        if limit is not None and parts[-1] and size + entry.nbytes > limit:
            parts.append([])
            size = 0
        parts[-1].append(entry)
        size += entry.nbytes
    return parts


def _names(stem: str, count: int) -> list[str]:
    if count == 1:
        return [f"{stem}.safetensors"]
    return [f"{stem}-{number + 1:05}-of-{count:05}.safetensors" for number in range(count)]
