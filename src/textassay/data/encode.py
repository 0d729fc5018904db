"""Tokenised rows, made once and kept on disk, memory-mapped."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from textassay.data.labels import LabelMap
from textassay.data.prompt import Prompt
from textassay.data.read import values
from textassay.data.token_ids import encode_texts
from textassay.files import cache_folder, replacing, sha256_texts

if TYPE_CHECKING:
    import datasets

BATCH = 1000
# A tokenizer takes about thirty times as much.
BYTES_AT_ONCE = 4_000_000
# The id of a row without a label. Not -100, which the library leaves out when it counts rows.
NO_LABEL = -1
SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.int64()),
        ("length", pa.int32()),
        ("truncated", pa.bool_()),
    ]
)


def encode(
    table: pa.Table, tokenizer: Any, labels: LabelMap, max_length: int, prompt: Prompt | None
) -> "datasets.Dataset":
    """`input_ids`, `labels`, `length`, `truncated` for every row, in order; no padding yet.

    A row whose label is null has the id `NO_LABEL`. Kept in the cache by a hash of rows, tokenizer,
    length and prompt, so that three seeds tokenise once.
    """
    # What an earlier call cut and padded to is part of the tokenizer's text, and no part of it.
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    rules = (labels.names, max_length, prompt, tokenizer.truncation_side, tokenizer.pad_token_id)
    settings = (backend.to_str(), repr(rules))
    names = (label or "" for label in values(table["label"]))
    key = sha256_texts(chain(values(table["text"]), names, settings))
    path = cache_folder("encoded") / f"{key.removeprefix('sha256:')}.arrow"
    kept = open_kept(path, len(table))
    if kept is not None:
        return kept
    return keep(path, SCHEMA, _batches(table, tokenizer, labels, max_length, prompt))


def open_kept(path: Path, rows: int) -> "datasets.Dataset | None":
    """The rows of a file in the cache, mapped; None if it is not there, or not whole."""
    import datasets

    try:
        kept = datasets.Dataset.from_file(str(path))
    except (OSError, ValueError, pa.ArrowException):  # absent, empty, or cut off
        return None
    return kept if len(kept) == rows else None


def keep(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> "datasets.Dataset":
    """Write a file into the cache, whole or not at all, and map it."""
    import datasets

    with replacing(path, private=True) as scratch:
        write_batches(scratch, schema, batches)
    return datasets.Dataset.from_file(str(path))


def _batches(
    table: pa.Table, tokenizer: Any, labels: LabelMap, max_length: int, prompt: Prompt | None
) -> Iterator[pa.RecordBatch]:
    known = labels.label2id
    for part in _parts(table):
        ids, cut = encode_texts(part["text"].to_pylist(), tokenizer, max_length, prompt)
        names = part["label"].to_pylist()
        ids_of_labels = [NO_LABEL if name is None else known[name] for name in names]
        yield pa.record_batch(
            [
                pa.array(ids, SCHEMA.field("input_ids").type),
                pa.array(ids_of_labels, pa.int64()),
                pa.array([len(row) for row in ids], pa.int32()),
                pa.array(cut, pa.bool_()),
            ],
            schema=SCHEMA,
        )


def _parts(table: pa.Table) -> Iterator[pa.Table]:
    """The rows in parts of BATCH rows, or of fewer where their texts are long."""
    lengths = pc.binary_length(table["text"]).to_numpy()
    start = 0
    while start < len(table):
        ends = np.cumsum(lengths[start : start + BATCH])
        count = max(1, int(np.searchsorted(ends, BYTES_AT_ONCE, side="right")))
        yield table.slice(start, count)
        start += count


def write_batches(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    """A file that `Dataset.from_file` maps into memory."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
