"""The inputs of a run: its data, base model and tokenizer as hashes, and whether they are the same.

A run may go on, and a finished one may be left alone, only on the inputs that it was begun with:
one row more moves rows between the splits, so that test rows would have been trained on.
"""

import functools
from pathlib import Path

from textassay.config.identity import Values, changed_inputs, input_files
from textassay.config.runs import Run, inputs_of_run
from textassay.config.schema import DataSection, Job
from textassay.console import say, warn
from textassay.data.load import Dataset, load_dataset
from textassay.errors import TextassayError, UsageError
from textassay.files import sha256_files
from textassay.models.source import Source, find_model

# The files that a tokenizer is made of, as transformers saves them.
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "vocab.json", "merges.txt", "*.model",
)  # fmt: skip


def find_inputs(job: Job, dataset: Dataset, base: Source | None) -> Values:
    """What a run's weights depend on beside its settings: rows and hashes, for `config.yaml`.

    `base` is None where it is made of the teacher's layers, and so known by the teacher.
    """
    return _inputs_of_data(dataset) | (_inputs_of_base(base) if base else {}) | input_files(job)


def is_left_alone(run: Run) -> bool:
    """Return True, and say so, if the run is finished and its inputs are those that it had.

    Raises UsageError that names what has changed.
    """
    if not run.is_done():
        return False
    try:
        now = (
            _read_data(run.job.data.model_dump_json()) | _read_base(run.job) | input_files(run.job)
        )
    except TextassayError as error:
        warn(
            f"{run.path}: its data or base model cannot be compared with those that it had: {error}"
        )
        now = {}
    changed = changed_inputs(inputs_of_run(run.path), now)
    if changed:
        raise UsageError(
            f"{run.path}: is finished, but {_listed(changed)} changed since. Put back what it was "
            "trained on, name another --output_dir, or train again with --force."
        )
    say(f"{run.path} is finished; --force runs it again")
    return True


def refuse_changed_inputs(run: Run, now: Values) -> None:
    """Raise UsageError if the run in the directory was begun with other inputs."""
    changed = changed_inputs(inputs_of_run(run.path), now)
    if changed:
        raise UsageError(
            f"{run.path}: {_listed(changed)} changed since this run was begun. Going on would mix "
            "both, and may test on rows that it was trained on. Put back what it was begun with, "
            "name another --output_dir, or start again with --force."
        )


def _inputs_of_data(dataset: Dataset) -> Values:
    splits = {split: {"rows": len(table), "sha256": dataset.fingerprint(split)}
              for split, table in dataset.splits.items()}  # fmt: skip
    return {**splits, "labels": list(dataset.labels.names)}


def _inputs_of_base(base: Source) -> Values:
    tokenizer = {path for pattern in TOKENIZER_FILES for path in base.path.glob(pattern)}
    return {
        "base_weights": base.weights_hash(),
        **({"base_revision": base.revision} if base.revision else {}),
        "base_config": sha256_files([base.path / "config.json"]),
        "tokenizer": sha256_files(tokenizer),
    }


@functools.cache
def _read_data(section: str) -> Values:
    """The inputs that a data section, as JSON, gives now; read once for all seeds of a job."""
    return _inputs_of_data(load_dataset(DataSection.model_validate_json(section)))


def _read_base(job: Job) -> Values:
    if job.distillation.student_layers:
        return {}
    return _inputs_of_base(find_model(job.model.model_name_or_path, job.model.revision))


def _listed(changed: list[str]) -> str:
    return " and ".join([", ".join(changed[:-1]), changed[-1]] if changed[1:] else changed)


def has_weights(folder: Path) -> bool:
    """Whether a run has anything that was trained, so that its inputs matter."""
    return any(folder.glob("checkpoint-*")) or any(
        (folder / name).is_dir() for name in ("model", "carried-over")
    )
