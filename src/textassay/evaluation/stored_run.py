"""The run around an artifact: what it was told, and the rows that it was trained on."""

from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from pydantic import ValidationError

from textassay.config.identity import changed_inputs, file_hashes
from textassay.config.runs import CONFIG, inputs_of_run, stored_config
from textassay.config.schema import (
    DataSection,
    DistillationSection,
    EvaluationSection,
    ModelSection,
)
from textassay.data.load import Dataset, load_dataset
from textassay.data.trained_on import trained_on
from textassay.data.unlabelled import load_unlabelled
from textassay.errors import DataError, TextassayError, UsageError

EVAL_BATCH = 64


@dataclass(frozen=True)
class StoredRun:
    """What the run around an artifact was told."""

    config: Path
    data: DataSection
    model: ModelSection
    evaluation: EvaluationSection
    eval_batch: int
    unlabelled_files: list[str] = field(default_factory=list)


def run_around(folder: Path) -> StoredRun | None:
    """The run in whose directory a folder lies, if it lies in one."""
    path = folder.resolve().parent / CONFIG
    content = stored_config(path.parent)
    if not content:
        return None
    try:
        return StoredRun(
            path,
            DataSection.model_validate(content.get("data") or {}),
            ModelSection.model_validate(content.get("model") or {}),
            EvaluationSection.model_validate(content.get("evaluation") or {}),
            int((content.get("training") or {}).get("per_device_eval_batch_size", EVAL_BATCH)),
            DistillationSection.model_validate(content.get("distillation") or {}).unlabelled_files,
        )
    except ValidationError as error:
        raise other_version(path, error) from None
    except (AttributeError, TypeError, ValueError):
        raise UsageError(f"{path}: is not what a run writes; it was changed.") from None


def other_version(config: Path, error: ValidationError) -> UsageError:
    """What to raise for a run's config that its schema refuses."""
    where = ".".join(str(part) for part in error.errors()[0]["loc"])
    return UsageError(
        f"{config}: {where} is not what this version writes; it was changed, or another version "
        "wrote it."
    )


def read_rows_of(run: StoredRun, fingerprint: str | None) -> Dataset:
    """Return the data of a run, their labels called as its model calls them.

    A run of an older version may know a ClassLabel column by its numbers; then the names would be
    taken for other data. `fingerprint` is that of the data in the hallmark.
    """
    dataset = load_dataset(run.data)
    if fingerprint in (None, dataset.whole_fingerprint()):
        return dataset
    as_known = load_dataset(run.data, trained_on(run.config.parent / "model"))
    return as_known if as_known.whole_fingerprint() == fingerprint else dataset


def training_rows(run: StoredRun | None, fingerprint: str | None) -> pa.Table | None:
    """The rows that a run was trained on, if they can still be read as they were.

    The texts that a student learned its teacher's answers on are among them. `fingerprint` is that
    of the data in the hallmark.
    """
    if run is None:
        return None
    try:
        dataset = read_rows_of(run, fingerprint)
        judging = [dataset.splits["validation"], dataset.splits["test"]]
        unlabelled, _ = load_unlabelled(run.unlabelled_files, run.data, judging)
    except TextassayError:
        return None
    if fingerprint and fingerprint != dataset.whole_fingerprint():
        return None
    learned = inputs_of_run(run.config.parent).get("unlabelled_files")
    if learned and learned != file_hashes(run.unlabelled_files):
        return None
    return pa.concat_tables([dataset.splits["train"], unlabelled])


def refuse_changed_rows(run: StoredRun, fingerprint: str) -> None:
    """Raise DataError like `refuse_changed_data`, where the data are still at hand."""
    try:
        dataset = read_rows_of(run, fingerprint)
    except TextassayError:
        return
    refuse_changed_data(run, fingerprint, dataset)


def refuse_changed_data(run: StoredRun, fingerprint: str, dataset: Dataset) -> None:
    """Raise DataError if a run's data are not what its hallmark says that it was trained on."""
    if fingerprint == dataset.whole_fingerprint():
        return
    before = inputs_of_run(run.config.parent)
    now = {split: {"rows": len(table), "sha256": dataset.fingerprint(split)}
           for split, table in dataset.splits.items()}  # fmt: skip
    changed = ", ".join(changed_inputs(before, now)) or "its data"
    raise DataError(
        f"{run.config.parent}: {changed} changed since it was trained, so its test rows may have "
        "been trained on. Put the data back, or name the rows to judge it on with --data_path."
    )
