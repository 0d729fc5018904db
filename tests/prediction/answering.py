"""A tiny stamped classifier, tables in every format, and what a prediction left behind."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tests.classifiers_for_tests import build, logits_of, save, shake, stamp_as_is
from tests.models_for_tests import tiny_bert

from textassay.data.read import read_file

FORMATS = ("csv", "tsv", "json", "jsonl", "parquet")
NASTY = {
    "empty": "",
    "blank": " \t ",
    "emoji": "😀🎉👩‍👩‍👧🏳️‍🌈",
    "NUL": "a\0b",
    "HTML": '<script>alert("x")</script>&amp;<b>good</b>',
    "right to left": "שלום עולם ‏مرحبا‏ بالعالم",
    "line ends": "good\r\nfilm\rand\nmore",
    "marks": '"quoted", with; all|the\tmarks\u2028 and \ufeff',
    "combining": "ź̸̢̛̗̈́ä́" * 20,
}


def make_classifier(folder: Path) -> Path:
    """A stamped model of three labels, each of which it gives to some of `texts_of(47)`."""
    built = build(tiny_bert(folder / "base"))
    shake(built.model, 0.5)
    logits = torch.tensor(logits_of(built, texts=texts_of(47)))
    with torch.no_grad():
        built.model.classifier.weight.div_(logits.std(0)[:, None])
        built.model.classifier.bias.sub_(logits.mean(0)).div_(logits.std(0))
    stamp_as_is(folder / "model", save(folder / "model", built.model, built.tokenizer))
    return folder / "model"


def texts_of(count: int) -> list[str]:
    """Texts no two of which are alike, of many lengths, in both languages of the tiny model."""
    words = [
        "a",
        "good",
        "film",
        "the",
        "food",
        "was",
        "not",
        "too",
        "long",
        "这部电影很好看",
        "房间太小了",
    ]
    return [f"{number} " + " ".join(words[number * step % len(words)] for step in range(number % 9))
            for number in range(count)]  # fmt: skip


def write_table(path: Path, columns: dict[str, list[Any]]) -> Path:
    """A file of these columns in the format that its name says."""
    suffix = path.suffix[1:]
    items = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if suffix == "parquet":
        pq.write_table(pa.table(columns), path)
    elif suffix == "json":
        path.write_text(json.dumps(items), encoding="utf-8")
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    else:
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, delimiter="\t" if suffix == "tsv" else ",")
        writer.writerows([list(columns), *zip(*columns.values(), strict=True)])
        path.write_bytes(stream.getvalue().encode())
    return path


def predicted_in(path: Path) -> list[str | None]:
    """The answers in a file, in order."""
    return list(read_file(path).columns["predicted"].to_pylist())


def as_lines(items: Sequence[Any]) -> str:
    return "".join(json.dumps(item) + "\n" for item in items)
