"""Files as people have them: the rows that every command must read of them, or its refusal."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Pairs = list[tuple[str, str]]
Content = str | bytes | pa.Table
THINGS = ("parcel", "invoice", "login", "refund", "delivery", "screen")


@dataclass(frozen=True, kw_only=True)
class Case:
    """Files by name, the first of which is read, or all of them where `is_folder`.

    `rows` are what the commands for labelled rows read; `refused` is what they say instead, and
    `by_clean` what clean.py says where it is not the same. `cleaned` and `answered` are the rows of
    clean.py and the texts of predict.py, where they are others. `reading` are flags of every
    command, `labels` those that say which labels there are.
    """

    files: dict[str, Content]
    rows: Pairs = field(default_factory=list)
    refused: str = ""
    by_clean: str = ""
    cleaned: Pairs | None = None
    answered: list[str] | None = None
    no_answer: str = ""
    reading: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    note: str = ""
    is_folder: bool = False

    def write(self, folder: Path) -> Path:
        """The path that the commands are given."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, pa.Table):
                pq.write_table(content, path)
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        first = folder / next(iter(self.files))
        return first.parent if self.is_folder else first


def texts(count: int = 24, of: Callable[[int, str], str] = "The {1} is here, case {0}".format):
    """Texts that all differ."""
    return [of(n, THINGS[n % len(THINGS)]) for n in range(count)]


def labelled(labels: list[str], of: list[str] | None = None) -> Pairs:
    """Texts with these labels in turn."""
    return [(text, labels[n % len(labels)]) for n, text in enumerate(of or texts())]


def table(rows: list[Any], header: tuple[str, ...] = ("text", "label"), **how: Any) -> str:
    """Rows as the csv module writes them."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n", **how)
    writer.writerows([header, *rows] if header else rows)
    return stream.getvalue()


def lines(rows: list[dict[str, Any]]) -> str:
    """JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def parquet(rows: list[Any], labels: Any, metadata: Any = None) -> pa.Table:
    """A table with these columns; `metadata` is what `datasets` writes."""
    made = pa.table({"text": rows, "label": labels})
    if metadata:
        told = json.dumps({"info": {"features": {"label": metadata}}})
        made = made.replace_schema_metadata({"huggingface": told})
    return made


PLAIN = labelled(["complaint", "praise"])
WITHOUT = [n for n in range(24) if n % 4 == 3]  # the rows without a text or a label
KEPT = [pair for n, pair in enumerate(PLAIN) if n not in WITHOUT]
SPOKEN = labelled(["neg", "pos"], texts(60, "The plot of the {1} is thin in part {0}.".format))
for _first, _last in ((10, 12), (30, 31)):  # a quotation over several lines
    SPOKEN[_first] = ('"' + SPOKEN[_first][0], SPOKEN[_first][1])
    SPOKEN[_last] = (SPOKEN[_last][0] + '"', SPOKEN[_last][1])
CODES = labelled(["250", "250.0", "250.00", "427.0"])
LOOKALIKES = labelled(["complaint\u200b", "praise", "complaint", "praise\u200b"])
SEVERAL = labelled(["toxic", "toxic,insult", "insult", "toxic,insult"])
BACKSLASHES = labelled(
    ["complaint", "praise"], texts(of='He said "the {1} broke, case {0}"'.format)
)
QUOTED = labelled(["complaint", "praise"], texts(of="The {1}; it's late, very, case {0}".format))
FEW = [*labelled(["normal"], texts(60)), ("a stolen card", "fraud"), ("a forged note", "fraud")]
EMOJI = labelled(["bad", "good"], [f"{chr(0x1F600 + n)}{chr(0x1F620 + n // 2)}" for n in range(24)])
VOWELS = "ािीुूेैोौ"
HINDI = labelled(["अच्छा", "बुरा"], [f"क{a}क{b}" for a in VOWELS[:5] for b in VOWELS])
HINDI_TEST = labelled(["अच्छा", "बुरा"], [f"क{a}क{b}" for a in VOWELS[5:] for b in VOWELS])
FRENCH = labelled(["a", "b"], texts(of="Où est ma {1} ? Ça fait déjà {0} jours à Nîmes".format))
ENGLISH = labelled(["a", "b"], texts(of="Don’t miss it – the {1} is £{0}.20, naïve".format))
ITALIAN = labelled(["a", "b"], texts(of="Perché la {1} è già rotta? Qualità {0} più o meno".format))
TITLES = [(f"About a {THINGS[n % 6]}", text) for n, text in enumerate(texts())]
NAMES = ["billing", "delivery", "other"]
SKIP = ("--on_bad_rows", "skip")


def legacy(rows: Pairs) -> dict[str, Any]:
    """A file in Windows-1252, and the refusal to write its letters into a copy unasked."""
    return {
        "files": {"data.csv": table(rows).encode("cp1252")}, "rows": rows,
        "by_clean": "its letters depend on the code page", "note": "read as Windows-1252, a guess",
    }  # fmt: skip


CASES: dict[str, Case] = {
    "a quotation over two sentences": Case(
        files={"data.csv": "text;label\n" + "".join(f"{t};{label}\n" for t, label in SPOKEN)},
        rows=SPOKEN, note="read without quoting: its quote characters belong to the texts",
    ),
    "a quotation over two sentences, tabs": Case(
        files={"data.tsv": "text\tlabel\n" + "".join(f"{t}\t{label}\n" for t, label in SPOKEN)},
        rows=SPOKEN, note="read without quoting",
    ),
    "pandas' default orientation": Case(
        files={"data.json": json.dumps(
            {name: {str(n): pair[at] for n, pair in enumerate(PLAIN)}
             for at, name in enumerate(("text", "label"))})},
        rows=PLAIN,
    ),
    "NaN for a text": Case(
        files={"data.jsonl": lines([{"text": float("nan") if n in WITHOUT else t, "label": label}
                                    for n, (t, label) in enumerate(PLAIN)])},
        refused="6 rows cannot be used: data.jsonl, line 4: has no text", cleaned=KEPT,
        no_answer="6 rows cannot be used: data.jsonl, line 4: has no text",
    ),
    "NaN for a text, skipped": Case(
        files={"data.jsonl": lines([{"text": float("nan") if n in WITHOUT else t, "label": label}
                                    for n, (t, label) in enumerate(PLAIN)])},
        rows=KEPT, labels=SKIP, note="6 rows left out: data.jsonl, line 4: has no text",
        no_answer="6 rows cannot be used",
    ),
    "a text spelt NaN": Case(
        files={"data.csv": table([("NaN" if n in WITHOUT else t, label)
                                  for n, (t, label) in enumerate(PLAIN)])},
        refused="6 rows cannot be used: data.csv, line 5: has no text", cleaned=KEPT,
        no_answer="6 rows cannot be used: data.csv, line 5: has no text",
    ),
    "doccano": Case(
        files={"data.jsonl": lines([{"id": n, "text": t, "label": [] if n in WITHOUT else [label]}
                                    for n, (t, label) in enumerate(PLAIN)])},
        refused="6 rows cannot be used: data.jsonl, line 4: has no label", cleaned=KEPT,
        answered=texts(),
    ),
    "lists as text": Case(
        files={"data.csv": table([(t, "[]" if n in WITHOUT else f"['{label}']")
                                  for n, (t, label) in enumerate(PLAIN)])},
        refused="6 rows cannot be used: data.csv, line 5: has no label", cleaned=KEPT,
        answered=texts(),
    ),
    "a binary column": Case(
        files={"data.parquet": parquet([t.encode() for t, _ in PLAIN],
                                       [label.encode() for _, label in PLAIN])},
        rows=PLAIN,
    ),
    "a decimal column": Case(
        files={"data.parquet": parquet(texts(), pa.array([Decimal(n % 2) for n in range(24)],
                                                         pa.decimal128(38, 0)))},
        rows=labelled(["0", "1"]),
    ),
    "ClassLabel": Case(
        files={"data.parquet": parquet(texts(), [n % 3 for n in range(24)],
                                       {"names": NAMES, "_type": "ClassLabel"})},
        rows=labelled(NAMES),
    ),
    "codes": Case(files={"data.csv": table(CODES)}, rows=CODES),
    "labels with an invisible character": Case(
        files={"data.csv": table(LOOKALIKES)}, rows=LOOKALIKES,
        cleaned=[(text, label.strip("\u200b")) for text, label in LOOKALIKES],
    ),
    "several labels": Case(
        files={"data.csv": table(SEVERAL)},
        refused="looks like several labels (toxic,insult) where one is expected",
        cleaned=[pair for pair in SEVERAL if "," not in pair[1]], answered=texts(),
    ),
    "two columns of one name": Case(
        files={"data.csv": table([(n % 2, label, t, t.upper()) for n, (t, label) in
                                  enumerate(PLAIN)], ("label", "Label", "text", "Text"))},
        rows=labelled(["0", "1"]), note="the column 'text' alone, and 'Text' holds texts too",
    ),
    "a class called none": Case(
        files={"data.csv": table(labelled(["none", "racism", "sexism"]))},
        rows=labelled(["none", "racism", "sexism"]), labels=("--labels", "none,racism,sexism"),
    ),
    "French in Windows-1252": Case(**legacy(FRENCH)),
    "English with pounds in Windows-1252": Case(**legacy(ENGLISH)),
    "Italian in Windows-1252": Case(**legacy(ITALIAN)),
    "French, its encoding named": Case(
        files={"data.csv": table(FRENCH).encode("cp1252")}, rows=FRENCH,
        reading=("--encoding", "cp1252"),
    ),
    "Excel's trailing commas": Case(
        files={"data.csv": table([(*pair, "", "", "") for pair in PLAIN],
                                 ("text", "label", "", "", ""))},
        rows=PLAIN, note="3 columns without a name and without a value ignored",
    ),
    "semicolons and single quotes": Case(
        files={"data.csv": table([pair[::-1] for pair in QUOTED], (), delimiter=";",
                                 quotechar="'")},
        rows=QUOTED, reading=("--column_names", "label,text"),
        note="read with ' as the quote character",
    ),
    "tabs in a CSV without a header": Case(
        files={"data.csv": "".join(f"{t}\t{label}\n" for t, label in PLAIN)}, rows=PLAIN,
        reading=("--column_names", "text,label"),
    ),
    "one column": Case(
        files={"data.csv": "text\n" + "\n".join(texts()) + "\n"}, answered=texts(),
        refused="has no label column",
    ),
    "one column, TSV": Case(
        files={"data.tsv": "text_a\n" + "\n".join([*texts(), "Fine"]) + "\n"},
        answered=[*texts(), "Fine"], refused="has no label column",
    ),
    "backslashes before quotes": Case(
        files={"data.csv": table(BACKSLASHES, escapechar="\\", doublequote=False, quoting=1)},
        rows=BACKSLASHES, note='read with \\" as a quote inside a field',
    ),
    "an array under the name of JSON Lines": Case(
        files={"data.jsonl": json.dumps([{"text": t, "label": label} for t, label in PLAIN])},
        rows=PLAIN,
    ),
    "a class of two rows": Case(files={"data.csv": table(FEW)}, rows=FEW),
    "emoji alone": Case(files={"data.csv": table(EMOJI)}, rows=EMOJI),
    "Hindi": Case(
        files={"set/train.csv": table(HINDI), "set/test.csv": table(HINDI_TEST)},
        rows=[*HINDI, *HINDI_TEST], cleaned=HINDI, answered=[text for text, _ in HINDI],
        is_folder=True,
    ),
    "a folder of Kaggle's": Case(
        files={"set/train.csv": table([(n, t, n % 2) for n, t in enumerate(texts(48))],
                                      ("id", "text", "target")),
               "set/test.csv": table([(n, t) for n, t in enumerate(texts(6))], ("id", "text")),
               "set/sample_submission.csv": table([(n, 0) for n in range(6)], ("id", "target"))},
        rows=labelled(["0", "1"], texts(48)), note="test.csv: has no label column, so it is left",
        is_folder=True,
    ),
    "a title and a body": Case(
        files={"data.csv": table([(*both, label) for both, (_, label) in
                                  zip(TITLES, PLAIN, strict=True)], ("title", "body", "label"))},
        rows=[(" ".join(both), label) for both, (_, label) in zip(TITLES, PLAIN, strict=True)],
        reading=("--text_column", "title,body"), by_clean="one is mended at a time",
    ),
}  # fmt: skip
