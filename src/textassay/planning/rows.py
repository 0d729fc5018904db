"""What a plan can know of a job's rows: labels, number, lengths; and what it has to assume."""

from dataclasses import dataclass, field
from typing import Any

from textassay.config.schema import Job
from textassay.data.catalog import read_entry
from textassay.data.encode import encode
from textassay.data.labels import LabelMap
from textassay.data.load import Dataset, load_dataset
from textassay.data.prompt import Prompt
from textassay.errors import TextassayError


@dataclass(frozen=True)
class Rows:
    """`train` and `validation` are numbers of rows, None where the data is not here.

    `longest` and `longest_validation` are in tokens: those of the longest batch, which is the one
    that needs the most memory.
    """

    labels: LabelMap
    longest: int
    longest_validation: int
    train: int | None = None
    validation: int | None = None
    notes: list[str] = field(default_factory=list)


def known_rows(job: Job, tokenizer: Any | None) -> Rows:
    """Read the job's data if that can be done, and tokenise it as the run would."""
    limit = job.model.max_seq_length
    try:
        dataset = load_dataset(job.data)
    except TextassayError as error:
        note = f"the data is not read ({str(error).rstrip('.')}): texts of {limit} tokens assumed"
        labels, assumed = _labels_without_data(job)
        return Rows(labels, limit, limit, notes=[note, *assumed])
    sizes = (len(dataset.splits["train"]), len(dataset.splits["validation"]))
    if tokenizer is None:
        note = f"the base's tokenizer is not here: texts of {limit} tokens assumed"
        return Rows(dataset.labels, limit, limit, *sizes, [*dataset.notes, note])
    longest = [_longest(job, dataset, split, tokenizer) for split in ("train", "validation")]
    return Rows(dataset.labels, longest[0], longest[1], *sizes, dataset.notes)


def _longest(job: Job, dataset: Dataset, split: str, tokenizer: Any) -> int:
    template = job.data.prompt
    prompt = Prompt.from_template(template, dataset.labels.names) if template else None
    table = dataset.splits[split]
    rows = encode(table, tokenizer, dataset.labels, job.model.max_seq_length, prompt)
    return max(rows.data["length"].to_pylist())


def _labels_without_data(job: Job) -> tuple[LabelMap, list[str]]:
    if job.data.labels:
        return LabelMap(tuple(job.data.labels)), []
    if job.data.name:
        return LabelMap(tuple(read_entry(job.data.name).labels)), []
    return LabelMap(("0", "1")), ["two labels assumed; name them with --labels"]
