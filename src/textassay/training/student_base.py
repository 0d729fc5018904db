"""A base model out of a teacher's layers: a directory like any other base's."""

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from textassay.artifacts.identify import ADAPTER, MODEL, identify
from textassay.artifacts.kinds import load_artifact, save_weights
from textassay.artifacts.merging import merged_classifier
from textassay.errors import GateError, UsageError
from textassay.files import cache_folder, read_json, replacing, sha256_text, write_json
from textassay.models.classifier import load_tokenizer
from textassay.models.shortening import keep_layers
from textassay.models.source import SETTINGS_KEY, Source
from textassay.training.teacher import Teacher

CUT = "cut.json"
# The same weights and the same arithmetic: what differs is a layer that is not where it was.
AGREEMENT = 1e-4


def base_from_teacher(teacher: Teacher, count: int) -> Source:
    """`count` of the teacher's layers and its embeddings, without a head, kept in the cache.

    An adapter is merged first. What was written is read back and compared; GateError where it
    computes otherwise. Raises UsageError for a teacher whose layers cannot be had.
    """
    kind = identify(teacher.folder).kind
    if kind not in (ADAPTER, MODEL):
        raise UsageError(
            f"distillation.student_layers: {teacher.name} is of kind {kind}, which has no layers "
            "to train; name the artifact that it was made from, or a student with --student."
        )
    key = sha256_text(teacher.identity, str(count)).removeprefix("sha256:")[:32]
    folder = cache_folder("students") / key
    if not (folder / CUT).is_file():
        with replacing(folder, private=True) as scratch:
            kept, total = _write(teacher.folder, kind, count, scratch)
            write_json(scratch / CUT, {"teacher": teacher.identity, "kept": kept, "of": total})
    cut = read_json(folder / CUT)
    numbers = ", ".join(str(index + 1) for index in cut["kept"])
    origin = f"layers {numbers} of {cut['of']} of {teacher.name}"
    return Source(f"{count} of the teacher's layers", folder, origin)


def _write(teacher: Path, kind: str, count: int, folder: Path) -> tuple[list[int], int]:
    """Write the base; the numbers of the layers that it keeps, and how many there were."""
    model = merged_classifier(teacher) if kind == ADAPTER else load_artifact(teacher).model
    backbone = model.base_model.eval()
    backbone.config = copy.deepcopy(backbone.config)
    vars(backbone.config).pop(SETTINGS_KEY, None)
    total = backbone.config.num_hidden_layers
    kept = keep_layers(backbone, count)
    save_weights(backbone, folder)
    load_tokenizer(str(teacher)).save_pretrained(folder)
    written = AutoModel.from_pretrained(folder, dtype="float32", trust_remote_code=False)
    _refuse_other_model(backbone, written.eval())
    return kept, total


def _refuse_other_model(cut: Any, written: Any) -> None:
    for model in (cut, written):
        model.config.use_cache = False  # its entries are numbered by layer, and numbers are missing
    ids = (torch.arange(16) % cut.config.vocab_size)[None]
    with torch.inference_mode():
        before, after = (model(ids).last_hidden_state for model in (cut, written))
    difference = float((before - after).abs().max())
    if not difference <= AGREEMENT:
        raise GateError(
            f"distillation.student_layers: the {cut.config.model_type} that was cut out of the "
            f"teacher computes otherwise once it is written (by {difference:.3g}); nothing was "
            "saved. Name a student with --student."
        )
