"""From a ZeRO checkpoint to weights that anything can load, a shard at a time."""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from textassay.artifacts.company import COMPANY
from textassay.artifacts.identify import ADAPTER, ADAPTER_CONFIG, MODEL
from textassay.artifacts.zero.checkpoint import ZeroCheckpoint
from textassay.artifacts.zero.files import StoredTensor, places_beside
from textassay.artifacts.zero.shards import write_shards
from textassay.artifacts.zero.stream import Entry, nobody
from textassay.config.runs import is_run
from textassay.console import counted
from textassay.errors import DataError, UsageError
from textassay.files import read_json, replacing, write_json
from textassay.links import refuse_link, refuse_links

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMG]?)B?$", re.IGNORECASE)
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
RECORD = "consolidation.json"
# What our trainer leaves beside ZeRO's states, so that a hallmark can say where they came from.
HALLMARK_FACTS = "hallmark_facts.json"
SHARD_SIZE = 5 * 10**9
# The last layer of a classifier, as the families name it, an adapter's copy of it among them.
HEAD = re.compile(r"(^|\.)(score|classifier|classification_head)\b.*weight$")
# What one read takes; larger buffers were no faster.
BYTES_AT_ONCE = 4 * 2**20
# What PEFT puts between a module and its adapter's tensors, and leaves out when it saves.
ADAPTER_NAME = re.compile(r"\.default(?=\.|$)")


@dataclass(frozen=True)
class Plan:
    """What a checkpoint becomes: names and shapes of its tensors, and the files beside them.

    `borrowed` says that config.json is the base's, which may count other labels.
    """

    checkpoint: ZeroCheckpoint
    beside: list[Path]
    borrowed: bool

    @property
    def is_adapter(self) -> bool:
        """Whether an adapter is written and not a whole model."""
        return self.checkpoint.holds_adapter

    def bytes_in(self, dtype: torch.dtype) -> int:
        """How many bytes of trained weights there will be."""
        return self.checkpoint.numel() * dtype.itemsize

    def summary(self) -> str:
        """What is there, in a few words."""
        return f"{self._format()}, {self._kind()}"

    def _format(self) -> str:
        return f"ZeRO stage {self.checkpoint.stage}, {counted(self.checkpoint.world_size, 'rank')}"

    def _kind(self) -> str:
        return ADAPTER if self.is_adapter else MODEL

    def describe(self) -> str:
        """What is there, in lines for the terminal."""
        found = self.checkpoint
        frozen = f", {len(found.frozen)} frozen" if found.frozen else ""
        lines = [
            f"checkpoint {found.folder}",
            f"format     {self._format()}",
            f"holds      {self._kind()}: {len(found.trained)} trained tensors{frozen}, "
            f"{found.numel():,} trained parameters",
            f"beside     {', '.join(path.name for path in self.beside)}",
        ]
        return "\n".join(lines)


def plan_consolidation(checkpoint: ZeroCheckpoint, base_model_path: Path | None) -> Plan:
    """Find config, tokenizer and labels: in `checkpoint-N/`, in the run above it, or in the base.

    Raises UsageError where there is no config, DataError where a tensor is empty or is not there,
    GateError where a link leads elsewhere.
    """
    step = checkpoint.folder.parent
    refuse_links_around(checkpoint.folder)
    own = places_beside(checkpoint.folder)
    places = [*own, *([base_model_path] if base_model_path else [])]
    beside = [found for name in COMPANY if (found := _first(places, name))]
    names = {path.name for path in beside}
    wanted = ADAPTER_CONFIG if checkpoint.holds_adapter else "config.json"
    if wanted not in names:
        raise UsageError(
            f"{step}: has no {wanted}, without which nobody knows what the weights mean; name a "
            "directory that has it with --base_model_path."
        )
    empty = [placed.name for placed in checkpoint.trained if placed.numel == 0]
    if empty:
        raise DataError(f"{checkpoint.folder}: the parameter {empty[0]} has no elements.")
    if checkpoint.frozen and not checkpoint.stored_frozen and not checkpoint.holds_adapter:
        raise DataError(
            f"{checkpoint.folder}: {len(checkpoint.frozen)} frozen parameters are recorded and not "
            f"stored, {next(iter(checkpoint.frozen))} among them, so the model would not be whole."
        )
    return Plan(checkpoint, beside, _first(own, "config.json") is None)


def refuse_links_around(step_folder: Path) -> None:
    """GateError where ZeRO's states, or what is copied from beside them, are links to elsewhere."""
    refuse_links(step_folder)
    for place in places_beside(step_folder):
        for name in (*COMPANY, HALLMARK_FACTS):
            refuse_link(place / name, place)


def refuse_target(checkpoint: Path, base: str | None, out: Path, force: bool) -> None:
    """UsageError where `out` would replace something else than what a consolidation has made.

    That takes `force`.
    """
    for named in (checkpoint, *([Path(base)] if base else [])):
        if named.resolve().is_relative_to(out.resolve()):
            raise UsageError(f"{out}: would replace {named}; name another directory.")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if out.resolve().name in ("model", "merged") and is_run(out.resolve().parent):
        raise UsageError(f"{out}: is the artifact of a run; name another directory.")
    if not (force and (out / RECORD).is_file()):
        raise UsageError(
            f"{out}: is there already; name another directory, or add --force to replace what a "
            "consolidation has made."
        )


def consolidate(
    plan: Plan,
    out: Path,
    dtype: torch.dtype = torch.float32,
    max_shard_size: int = SHARD_SIZE,
    wrote: Callable[[int], None] = nobody,
) -> list[Path]:
    """Write safetensors shards of at most `max_shard_size` bytes with an index, and what is beside.

    A few megabytes of the weights are in memory at a time. `wrote` is told the bytes of each piece.
    The directory appears whole or not at all; the shards' paths are returned.
    """
    with replacing(out) as scratch:
        scratch.mkdir(parents=True)
        shards = _write_shards(plan, scratch, dtype, max_shard_size, wrote)
        for path in plan.beside:
            shutil.copyfile(path, scratch / path.name)
        name = str(dtype)[len("torch.") :]
        if (scratch / "config.json").is_file():
            complaint = "config.json: beside the checkpoint is no model config; mend it."
            config = object_in(scratch / "config.json", complaint)
            labels = _as_many_labels(config, plan) if plan.borrowed else {}
            named = {} if plan.is_adapter else {"dtype": name}
            write_json(scratch / "config.json", {**config, **labels, **named})
        found = plan.checkpoint
        record = {
            "checkpoint": f"{found.folder.parent.name}/{found.folder.name}",
            "zero_stage": found.stage,
            "world_size": found.world_size,
            "dtype": name,
        }
        write_json(scratch / RECORD, record)
    return [out / shard.name for shard in shards]


def object_in(path: Path, complaint: str) -> dict[str, Any]:
    """The object in a JSON file. DataError with the complaint where there is none."""
    try:
        content = read_json(path)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise DataError(complaint)
    return content


def _as_many_labels(config: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """The base's config with as many labels as the checkpoint's head has; their names are lost."""
    heads = [placed.shape[0] for placed in plan.checkpoint.trained
             if HEAD.search(placed.name) and len(placed.shape) == 2]  # fmt: skip
    if not heads or len(config.get("id2label") or {}) == heads[-1]:
        return {}
    names = [f"LABEL_{index}" for index in range(heads[-1])]
    return {
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
    }


def parse_size(text: str) -> int:
    """Bytes for `5GB`, `200MB`, `1000`. UsageError for anything else."""
    match = SIZE.match(text.strip())
    if not match or not float(match[1]):
        raise UsageError(f"--max_shard_size: {text!r} is no size such as 5GB or 200MB.")
    return int(float(match[1]) * UNITS[match[2].upper()])


def saved_tensors(plan: Plan) -> Iterator[tuple[str, StoredTensor]]:
    """Every tensor, not read, under the name that it is saved by; tied ones stand there once."""
    frozen = plan.checkpoint.frozen
    for tensor in plan.checkpoint.stored():
        name = tensor.name
        if plan.is_adapter and name in frozen:
            continue  # the base's
        yield adapter_key(name) if plan.is_adapter else name, tensor


def adapter_key(name: str) -> str:
    """What PEFT saves a parameter of an adapter as."""
    plain = ADAPTER_NAME.sub("", name.replace(".modules_to_save.default.", "."))
    return plain.replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def _as_dtype(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor in that dtype, if it is of numbers that can be. DataError where one overflows."""
    if not tensor.is_floating_point():
        return tensor
    made = tensor.to(dtype)
    # The extremes first: asking for the kind of every number takes many times as long.
    extremes = torch.stack(torch.aminmax(made))
    if not bool(extremes.isfinite().all()) and bool((made.isinf() & tensor.isfinite()).any()):
        raise DataError(
            f"{name}: holds a number of {float(tensor.abs().max()):.4g}, which is too large for "
            f"{dtype}; use --dtype bfloat16 or float32."
        )
    return made


def _write_shards(
    plan: Plan, folder: Path, dtype: torch.dtype, limit: int, wrote: Callable[[int], None] = nobody
) -> list[Path]:
    """Write every tensor through one small buffer, so that memory does not grow with the model."""
    buffer = torch.empty(BYTES_AT_ONCE, dtype=torch.uint8)
    entries = [_entry(name, tensor, dtype, buffer) for name, tensor in saved_tensors(plan)]
    # PEFT reads one file.
    stem, most = ("adapter_model", None) if plan.is_adapter else ("model", limit)
    return write_shards(entries, folder, stem, most, wrote)


def _entry(name: str, tensor: StoredTensor, dtype: torch.dtype, buffer: torch.Tensor) -> Entry:
    to = dtype if tensor.dtype.is_floating_point else tensor.dtype

    def parts() -> Iterator[torch.Tensor]:
        for part in tensor.parts(buffer):
            yield part if part.dtype == to else _as_dtype(name, part, to)

    return Entry(name, to, tensor.shape, parts)


def _first(places: list[Path], name: str) -> Path | None:
    return next((place / name for place in places if (place / name).is_file()), None)
