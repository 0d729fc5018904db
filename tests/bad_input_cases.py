"""Data that must be refused, and odd data that must be read to the last row.

All paths are relative to the folder that the command runs in.
"""

import codecs
import gzip
import io
import json
import random
import zipfile
import zlib
from dataclasses import dataclass, field

USAGE = 2
BAD_DATA = 65

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Refused:
    """One bad input: its flags, the exit code, what the message must say, and its files."""

    name: str
    flags: str | list[str]
    exit_code: int
    says: tuple[str, ...]
    files: dict[str, str | bytes] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Read:
    """One odd but good file: all of its rows must arrive, with a note that holds `note`."""

    name: str
    file: str
    content: str | bytes
    rows: Pairs
    note: str = ""


@dataclass(frozen=True)
class Skipped:
    """A file with `bad` rows that --on_bad_rows skip leaves out, and counts."""

    name: str
    content: str
    bad: int


def pairs(count: int = 20, labels: tuple[str, ...] = ("good", "bad")) -> Pairs:
    """Texts that all differ, each label in turn."""
    return [(f"a {labels[i % len(labels)]} film, number {i}", labels[i % len(labels)])
            for i in range(count)]  # fmt: skip


def table(*lines: str, header: str = "text,label", good: Pairs | None = None) -> str:
    """A CSV of good rows, with `lines` from its line 6 on."""
    written = [f'"{text}",{label}' for text, label in (pairs() if good is None else good)]
    return "\n".join([header, *written[:4], *lines, *written[4:]]) + "\n"


def json_lines(good: Pairs) -> str:
    """JSON Lines with `text` and `label`."""
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in good)


def labelled(labels: list[object]) -> str:
    """A CSV with these labels, each on texts that all differ."""
    lines = [f"text number {i},{label}" for i, label in enumerate(labels)]
    return "\n".join(["text,label", *lines]) + "\n"


def picture() -> bytes:
    """A real PNG of 64 x 64 random pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + check

    size = (64).to_bytes(4, "big")
    pixels = b"".join(b"\0" + random.Random(row).randbytes(64 * 3) for row in range(64))
    head = chunk(b"IHDR", size + size + bytes([8, 2, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def zipped(text: str) -> bytes:
    """A real archive with one CSV in it."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("data.csv", text)
    return memory.getvalue()


def comma(good: Pairs) -> str:
    """A CSV with every field quoted."""
    lines = [f'"{text.replace(chr(34), chr(34) * 2)}","{label}"\n' for text, label in good]
    return "text,label\n" + "".join(lines)


CHINESE = [(f"这部电影{'好看，我喜欢' if i % 2 else '难看，我讨厌'}，第{i}次", "正负"[i % 2] + "面")
           for i in range(20)]  # fmt: skip
FRENCH = [(f"un café agréable, numéro {i}", "très" if i % 2 else "peu") for i in range(20)]
NOISE = random.Random(1).randbytes(20_000)
DATA = "--data_path data.csv"
FOLDER = "--data_path d"
TRAIN = table()
OTHER = table(good=[(f"another {text}", label) for text, label in pairs()])


def one_file(name: str, content: str | bytes, *says: str, flags: str = "", **more: str) -> Refused:
    """A file called data.csv that is bad data, and whose name must be in the message."""
    return Refused(
        name, f"{DATA} {flags}", BAD_DATA, ("data.csv", *says), {"data.csv": content}, **more
    )


def typed(name: str, file: str, content: str | bytes, *says: str, **more: str) -> Refused:
    """The same for a file of another type."""
    return Refused(name, f"--data_path {file}", BAD_DATA, (file, *says), {file: content}, **more)


def folder(name: str, files: dict[str, str], *says: str, **more: str) -> Refused:
    """A directory d that is bad data."""
    inside = {f"d/{file}": content for file, content in files.items()}
    return Refused(name, FOLDER, BAD_DATA, says, inside, **more)


FILES = [
    Refused("no data named", "", USAGE, ("no data", "--data_path")),
    Refused("no such file", "--data_path nothing.csv", BAD_DATA, ("nothing.csv", "no such file")),
    Refused("no such data on a hub that is not asked", "--data_path nobody/nothing", BAD_DATA,
            ("nobody/nothing", "neither a local path nor a data set", "HF_HUB_OFFLINE")),
    Refused("a path too long", ["--data_path", "x" * 300], BAD_DATA, ("xxx", "no such file")),
    Refused("validation without train", "--validation_file data.csv", USAGE, ("--train_file",),
            {"data.csv": TRAIN}),
    one_file("empty", "", "is empty"),
    one_file("blank lines only", "\n\n", "is empty"),
    one_file("a byte-order mark only", codecs.BOM_UTF8, "is empty"),
    one_file("header only", "text,label\n", "has a header but no rows"),
    one_file("a picture", picture(), "is not text but a picture"),
    typed("a picture under its own name", "face.png", picture(), "is none of .csv"),
    one_file("a zip", zipped(TRAIN), "is not text but a zip archive", "unpack it"),
    one_file("gzip", gzip.compress(TRAIN.encode()), "gzip-compressed"),
    one_file("random bytes", NOISE, "not"),
    typed("random bytes as Parquet", "data.parquet", NOISE, "is not a readable Parquet file"),
    typed("random bytes as JSON Lines", "data.jsonl", NOISE, "not"),
    one_file("UTF-16 cut in the middle of a character", TRAIN.encode("utf-16")[:-1], "UTF-16"),
    one_file("Chinese UTF-8 with a broken character", comma(CHINESE).encode()
             .replace("第7次".encode(), "第".encode()[:2]), "line 9", "is not valid UTF-8"),
    one_file("French UTF-8 with a broken character", comma(FRENCH).encode()
             .replace("numéro 7".encode(), "numéro 7".encode("latin-1")), "line 9",
             "is not valid UTF-8"),
]  # fmt: skip

ROWS = [
    one_file("an unclosed quote", TRAIN + '"an open end,good\n', "line 22", "never closed"),
    one_file("a quote closed by the next row's", table('"an open end,good'), "line 6",
             "is not well-formed CSV"),
    one_file("a cell of 5 MB", table(f"{'word ' * 1_000_000},good"), "line 6",
             "5,000,000 characters"),
    one_file("NUL bytes", table("nul\0nul\0,good"), "line 6", "NUL bytes"),
    one_file("a field too many", table("a comma, and no quotes,good"), "line 6", "3 fields", "2",
             "--on_bad_rows skip"),
    one_file("a field too few", table("no label"), "line 6", "1 field"),
    one_file("missing labels", table("who knows,", "nobody knows,"), "2 rows", "line 6",
             "has no label", "--on_bad_rows skip"),
    one_file("missing texts", table(",good", "  ,bad"), "2 rows", "line 6", "has no text"),
    one_file("nan as a label", table("who knows,nan"), "line 6", "has no label"),
    one_file("several labels", table('who knows,"[1, 2]"'), "line 6", "several labels"),
    one_file("only bad rows, skipped", "text,label\n,good\n,bad\n", "no usable row",
             flags="--on_bad_rows skip"),
    typed("a broken line of JSON", "data.jsonl", json_lines(pairs(4)) + '{"text": "an\n', "line 5",
          "is not valid JSON"),
    typed("broken JSON", "data.json", '[{"text": "a", "label": "b"},]', "line 1", "not valid JSON"),
    typed("JSON that is a number", "data.json", "5", "is not a list of objects"),
    typed("JSON that is a list of numbers", "data.json", "[1, 2, 3]", "not an object"),
    typed("JSON that is a million brackets", "data.json", "[" * 1_000_000, "JSON"),
    typed("JSON Lines with a million brackets", "data.jsonl", "[" * 1_000_000, "line 1", "JSON"),
    typed("half of a surrogate pair", "data.jsonl", json_lines(pairs()) +
          '{"text": "\\ud83d", "label": "good"}', "surrogate"),
]  # fmt: skip

COLUMNS = [
    one_file("no text column", table(header="words,label"), "no text column", "'words'",
             "--text_column"),
    one_file("no header", "\n".join(TRAIN.splitlines()[1:]), "no text column", "--column_names"),
    one_file("two candidates", table(header="review,comment").replace("film,", "film"),
             "'review' and 'comment'", "--text_column"),
    one_file("duplicate headers", table(header="text,text"), "'text'", "more than once"),
    one_file("no such column", TRAIN, "'txet'", "did you mean text?", flags="--text_column txet"),
    one_file("the label as the text", TRAIN, "'label'", flags="--text_column label"),
]  # fmt: skip

LABELS = [
    one_file("one class", labelled(["good"] * 9), "every row has the label 'good'"),
    one_file("a class with one row", table("so so,mixed"), "line 6", "the label 'mixed'",
             "single text"),
    one_file("a class with one text", table("so so,mixed", "So so!,mixed"), "line 6",
             "single text"),
    one_file("measurements", labelled([0.37, 0.61, 0.37, 0.61] * 5), "line 2", "0.37",
             "measurement"),
    one_file("words and numbers", table("one more,1"), "'good'", "line 6", "the number 1;"),
    one_file("too few rows to cut", labelled(["good", "bad"] * 2), "too few rows"),
    one_file("one text under every label", "text,label\n" + "same,good\nsame,bad\n" * 9, ""),
]  # fmt: skip

FOLDERS = [
    folder("no train", {"test.csv": TRAIN}, "d: has no file for train", "test.csv",
           "--train_file"),
    folder("nothing in it that counts", {"notes.txt": "text"}, "d: has no file for train",
           "notes.txt"),
    folder("two trains", {"train.csv": TRAIN, "train.jsonl": json_lines(pairs())},
           "train.csv and train.jsonl both"),
    folder("a shard and a whole", {"train.csv": TRAIN, "train-00000-of-00001.csv": OTHER},
           "train.csv", "train-00000-of-00001.csv", "both"),
    folder("train is test", {"train.csv": TRAIN, "test.csv": TRAIN}, "test.csv",
           "every test row also stands in train"),
    folder("a label that train does not have",
           {"train.csv": TRAIN, "test.csv": OTHER.replace(",good\n", ",goood\n")},
           "test.csv", "'goood'", "not in train", "bad, good"),
    folder("an empty test", {"train.csv": TRAIN, "test.csv": "text,label\n"}, "test.csv",
           "no rows"),
    folder("a test without columns", {"train.csv": TRAIN, "test.csv": table(header="a,b")},
           "test.csv", "no text column"),
]  # fmt: skip

ALL = [*FILES, *ROWS, *COLUMNS, *LABELS, *FOLDERS]

QUOTED = [(f'he said "{text}"', label) for text, label in pairs()]
OPEN = [*pairs(), ('"a quote that never closes', "good"), ('5" of snow', "bad")]
TWO_LINES = [(f"{text},\nand a second line", label) for text, label in pairs()]


def tab(good: Pairs) -> str:
    """A TSV as it comes: no quoting at all."""
    return "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in good)


WELL_READ = [
    Read("GB18030", "data.csv", comma(CHINESE).encode("gb18030"), CHINESE, "GB18030"),
    Read("GB18030 as JSON Lines", "data.jsonl", "".join(
        json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n"
        for text, label in CHINESE).encode("gb18030"), CHINESE, "GB18030"),
    Read("UTF-16 with a mark", "data.csv", comma(pairs()).encode("utf-16"), pairs(), "UTF-16"),
    Read("UTF-16, big end first", "data.csv", codecs.BOM_UTF16_BE + comma(CHINESE)
         .encode("utf-16-be"), CHINESE, "UTF-16"),
    Read("UTF-16 without a mark", "data.csv", comma(pairs()).encode("utf-16-le"), pairs(),
         "UTF-16-LE (no byte-order mark)"),
    Read("UTF-16, big end first, without a mark", "data.csv", comma(pairs()).encode("utf-16-be"),
         pairs(), "UTF-16-BE (no byte-order mark)"),
    Read("a byte-order mark", "data.csv", codecs.BOM_UTF8 + comma(CHINESE).encode(), CHINESE),
    Read("quotes in TSV", "data.tsv", tab(QUOTED), QUOTED, "without quoting"),
    Read("quotes that never close in TSV", "data.tsv", tab(OPEN), OPEN, "without quoting"),
    Read("newlines in quoted fields", "data.csv", comma(TWO_LINES), TWO_LINES),
    Read("quotes in CSV, doubled", "data.csv", comma(QUOTED), QUOTED),
    Read("one quote in a file without quotes", "data.csv", labelled(["good", "bad"] * 10) +
         '"an open end,good\n', [(f"text number {i}", "bad" if i % 2 else "good")
         for i in range(20)] + [('"an open end', "good")], "without quoting"),
    Read("Mac line ends, quoted", "data.csv", comma(pairs()).replace("\n", "\r"), pairs()),
    Read("Mac line ends", "data.csv", labelled([1, 0] * 10).replace("\n", "\r"),
         [(f"text number {i}", str(1 - i % 2)) for i in range(20)]),
    Read("Windows line ends", "data.csv", comma(pairs()).replace("\n", "\r\n"), pairs()),
    Read("no newline at the end", "data.csv", comma(pairs()).rstrip("\n"), pairs()),
    Read("semicolons", "data.csv", comma(pairs()).replace(",label", ";label")
         .replace('","', '";"'), pairs()),
    Read("labels 1.0 and 0.0", "data.csv", labelled([1.0, 0.0] * 10),
         [(f"text number {i}", str(1 - i % 2)) for i in range(20)]),
    Read("JSON Lines under the name of JSON", "data.json", json_lines(pairs()), pairs()),
    Read("JSON with the rows below a key", "data.json", json.dumps(
        {"version": 1, "data": [{"text": t, "label": lb} for t, lb in pairs()]}), pairs()),
]  # fmt: skip

SKIPPED = [
    Skipped("missing labels", table("who knows,", "nobody knows,"), 2),
    Skipped("missing texts", table(",good", "  ,bad"), 2),
    Skipped("fields too many and too few", table("a,b,good", "a,b,c,bad", "none"), 3),
    Skipped("NUL bytes", table("nul\0,good"), 1),
    Skipped("a cell of 5 MB", table(f"{'word ' * 1_000_000},good"), 1),
    Skipped("more than are shown", table(*[f"number {i}," for i in range(7)]), 7),
    Skipped(
        "a quote closed by the next row's",
        table('"an open end,good'),
        1,
    ),
]
