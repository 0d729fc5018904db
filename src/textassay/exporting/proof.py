"""The rows on which what is made is held to what it was made from."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from textassay.artifacts.kinds import Loaded
from textassay.config.schema import DataSection
from textassay.console import counted, warn
from textassay.data.load import load_dataset, load_rows
from textassay.data.split import sample, stand_in
from textassay.data.token_ids import encode_texts
from textassay.data.trained_on import trained_on
from textassay.errors import DataError, GateError, UsageError
from textassay.evaluation.contenders import as_trained
from textassay.evaluation.stored_run import read_rows_of, run_around

# So many texts are compared, all there are if there are fewer.
PROOF_ROWS = 256
SAMPLE_SEED = 0
# So often the texts are doubled until they are too long.
DOUBLINGS = 20


@dataclass(frozen=True)
class ProofRows:
    """Texts to compare logits on; labelled rows to judge on and to choose on, where known.

    `training_note` says whether the rows to judge on stand in the training data.
    """

    title: str
    texts: list[str]
    validation: pa.Table | None = None
    train: pa.Table | None = None
    training_note: str = ""


def find_proof_rows(
    folder: Path, hallmark: dict[str, Any] | None, data: DataSection | None
) -> ProofRows:
    """The rows that `data` names; else those of the run around an artifact; else its probe.

    A single file is used whole, as validation rows. Raises UsageError where there are none, and
    DataError where they cannot be used.
    """
    run = run_around(folder)
    if data is None and run is None:
        texts = hallmark["probe"]["texts"] if hallmark else []
        if not texts:
            raise UsageError(
                f"{folder}: stands in no run and its hallmark keeps no rows, so there is nothing "
                "to compare on; name rows with --data_path."
            )
        return ProofRows("the probe of its hallmark", list(texts))
    section, model = as_trained(data, run), trained_on(folder) if data else None
    if data is not None and data.path and os.path.isfile(data.path):  # noqa: PTH113 (long names)
        table, notes = load_rows(Path(data.path), section, None, model)
        for note in notes:
            warn(note)
        return ProofRows(f"{data.path}, the whole file", _some(table), table)
    if data is None and run is not None:
        dataset = read_rows_of(run, (hallmark or {}).get("data", {}).get("fingerprint"))
    else:
        dataset = load_dataset(section, model)
    for note in dataset.notes:
        warn(note)
    validation = dataset.splits["validation"]
    return ProofRows(
        f"{dataset.name}, validation", _some(validation), validation, dataset.splits["train"]
    )


def with_cut_text(rows: ProofRows, loaded: Loaded) -> ProofRows:
    """The rows, with a text that `loaded` has to cut: one of their own, else all of them joined.

    At which end a text is cut shows in no other row.
    """

    def is_cut(texts: list[str]) -> bool:
        return any(encode_texts(texts, loaded.tokenizer, loaded.max_length, loaded.prompt)[1])

    if is_cut(rows.texts):
        return rows
    joined = " ".join([*rows.texts, "and so on"])
    for _ in range(DOUBLINGS):
        if is_cut([joined]):
            return replace(rows, texts=[*rows.texts, joined])
        joined = f"{joined} {joined}"
    return rows  # of a tokenizer that gives these texts no tokens


def leave_out_training_rows(rows: ProofRows, train: pa.Table | None) -> ProofRows:
    """The rows without those whose texts the classifier was trained on, and a note on them.

    On texts that it was trained on a classifier is sure, and quantising changes few answers.
    GateError where no row is left.
    """
    if rows.validation is None:
        return rows
    if train is None:
        note = "Whether these rows stand in the training data is not known."
        return replace(rows, training_note=note)
    seen = stand_in(rows.validation, train)
    if not any(seen):
        note = "None of these rows has a text that stands in the training data."
        return replace(rows, training_note=note)
    if all(seen):
        raise GateError(
            f"{rows.title}: each of the {counted(len(seen), 'row')} has a text that stands in the "
            "training data, "
            "and such rows prove nothing; name others with --data_path. Nothing was written."
        )
    kept = rows.validation.filter(pa.array([not one for one in seen]))
    note = f"Left out: {counted(sum(seen), 'row')} with a text that stands in the training data."
    return replace(rows, validation=kept, training_note=note)


def refuse_other_labels(rows: pa.Table, known: list[str], title: str) -> None:
    """DataError where rows have labels that the classifier does not know."""
    strange = sorted(set(rows["label"].to_pylist()) - set(known))
    if strange:
        raise DataError(
            f"{title}: has the label {strange[0]!r}, which is none of the model's: "
            f"{', '.join(known)[:200]}."
        )


def _some(table: pa.Table) -> list[str]:
    texts: list[str] = sample(table, PROOF_ROWS, SAMPLE_SEED)["text"].to_pylist()
    return texts
