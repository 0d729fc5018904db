"""A teacher: found, asked once about every row of its student, its answers kept on disk."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from textassay.artifacts.classifier import Classifier
from textassay.artifacts.hallmark import FILE, read_hallmark
from textassay.config.runs import is_run, refuse_links_in
from textassay.config.schema import DistillationSection
from textassay.console import counted, say, some
from textassay.data.encode import keep, open_kept
from textassay.data.labels import LabelMap
from textassay.data.load import Dataset
from textassay.data.read import values
from textassay.errors import UsageError
from textassay.files import cache_folder, sha256_file, sha256_files, sha256_texts
from textassay.links import refuse_links
from textassay.models.source import find_model
from textassay.training.progress import SECONDS_BETWEEN_LINES

TEACHER_LOGITS = "teacher_logits"
SCHEMA = pa.schema([(TEACHER_LOGITS, pa.list_(pa.float32()))])
ASKED_AT_ONCE = 1024


@dataclass(frozen=True)
class Teacher:
    """A classifier in `folder`, called `name` in the job.

    `identity` is the hash of its hallmark, which holds those of its files; without a hallmark it is
    one of the files themselves.
    """

    name: str
    folder: Path
    hallmark: dict[str, Any] | None
    identity: str

    def load(self, device: str) -> Classifier:
        """The teacher in memory, every file held to its hallmark."""
        return Classifier.load(self.folder, device=device, check_hashes=True)

    def describe(self) -> dict[str, Any]:
        """What a provenance says of it."""
        return {
            "name": self.name,
            "kind": self.hallmark["kind"] if self.hallmark else None,
            "hallmark": self.identity if self.hallmark else None,
            "files": None if self.hallmark else self.identity,
        }


def find_teacher(section: DistillationSection) -> Teacher:
    """The teacher that a job names: a run, an artifact, or a classifier's hub name.

    Raises UsageError where there is none.
    """
    name = str(section.teacher)
    folder = _folder(name)
    refuse_links(folder)
    hallmark = read_hallmark(folder)
    files = [path for path in folder.iterdir() if path.is_file()]
    identity = sha256_file(folder / FILE) if hallmark else sha256_files(files)
    return Teacher(name, folder, hallmark, identity)


def _folder(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_dir():
        try:
            return find_model(name).path
        except UsageError as error:
            reason = str(error).removeprefix("model.model_name_or_path: ")
            raise UsageError(f"distillation.teacher: {reason}") from None
    if not is_run(path):
        return path
    refuse_links_in(path)
    if not (path / "model").is_dir():
        raise UsageError(f"distillation.teacher: {name} is a run without a model; finish it first.")
    return path / "model"


def ask(
    teacher: Teacher, texts: pa.ChunkedArray, labels: LabelMap, device: str
) -> datasets.Dataset:
    """The teacher's logits in the order of `labels`, fp32, a row a text, mapped from the cache.

    Raw logits: a calibrated teacher's own temperature would only be another one to divide by.
    Whoever asks again, a run that goes on after a kill among them, reads the same bytes. Raises
    UsageError where the teacher has other labels.
    """
    key = sha256_texts(chain((teacher.identity, repr(labels.names)), values(texts)))
    path = cache_folder("teachers") / f"{key.removeprefix('sha256:')}.arrow"
    kept = open_kept(path, len(texts))
    if kept is not None:
        return kept
    classifier = teacher.load(device)
    order = _order(teacher, classifier.labels, labels)
    started = time.monotonic()
    answers = keep(path, SCHEMA, _answers(classifier, texts, order))
    seconds = time.monotonic() - started
    asked = counted(len(texts), "text")
    say(f"teacher    {teacher.name}: asked about {asked} in {seconds:.1f} s")
    return answers


def _answers(
    classifier: Classifier, texts: pa.ChunkedArray, order: list[int]
) -> Iterator[pa.RecordBatch]:
    last_line = time.monotonic()
    for start in range(0, len(texts), ASKED_AT_ONCE):
        if time.monotonic() - last_line > SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            say(f"  asked about {start:,} of {counted(len(texts), 'text')}")
        logits = classifier.logits(texts.slice(start, ASKED_AT_ONCE).to_pylist())[:, order]
        rows = pa.array(list(logits), SCHEMA.field(TEACHER_LOGITS).type)
        yield pa.record_batch([rows], schema=SCHEMA)


def _order(teacher: Teacher, known: list[str], labels: LabelMap) -> list[int]:
    """For each of our labels its place among the teacher's, which have to be the same ones."""
    if set(known) != set(labels.names):
        raise UsageError(
            f"distillation.teacher: {teacher.name} knows the labels {some(known)}, and the "
            f"data have {some(labels.names)}; name a teacher of the same labels, or the rows "
            "that it was trained on."
        )
    return [known.index(name) for name in labels.names]


def doubts(teacher: Teacher, dataset: Dataset) -> list[str]:
    """A note where the teacher may have been trained on rows that judge it here."""
    if teacher.hallmark is None:
        return ["the teacher carries no hallmark: nothing says which rows it was trained on"]
    trained_on = teacher.hallmark.get("data", {})
    if trained_on.get("fingerprint") == dataset.whole_fingerprint():
        return []
    return [
        f"the teacher was trained on other rows or another split ({trained_on.get('name')}); if "
        "test rows are among them, its figures flatter, and the student's may"
    ]
