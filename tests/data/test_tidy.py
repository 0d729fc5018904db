"""A cleaned copy: what is repaired, what is left out and said, and what is never touched."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.commands_for_tests import SCRIPTS, assert_refused, everything

from textassay import console
from textassay.data.columns import Columns
from textassay.data.read import read_file
from textassay.data.tidy import ROUNDS, repair
from textassay.files import read_json

FORMATS = ["csv", "tsv", "json", "jsonl", "parquet"]
NAMES = Columns("text", "label")
# (text, label, note) with everything that can be wrong; line 2 of a CSV is the first.
DIRTY = [
    ("Tom &amp;amp; Anna, a \"lovely\" place", "good", "a,b"),
    ("\ufeffbest dumplings in town", "good", "tab\there"),
    ("best  dumplings in town", "good", 'a "quote"'),
    (" cold  soup ", "bad", "two\nlines"),
    ("cold soup", "good", "carriage\rreturn"),
    ("cold soup", "bad ", " spaces "),
    ("\u200b", "bad", ""),
    ("no label here", "", "x"),
    ("two labels here", "0,1", "x"),
    ('"begins with a quote', "bad", ";|"),
    ("房间很干净[哈哈]，服务也不错", "good", "备注"),
]  # fmt: skip


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """`clean("in.csv", "--output", "out.csv")`: scripts/clean.py in this process, in a folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.delitem(sys.modules, "clean", raising=False)
    import clean as script

    def run(*arguments):
        console.out.cache_clear()
        console.err.cache_clear()
        return CliRunner().invoke(script.main, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def cleaned(clean):
    """`cleaned("in.csv", *flags)`: the rows of the copy, the report, and every row touched."""

    def run(source, *flags, output="out.jsonl"):
        before = Path(source).read_bytes()
        result = clean(source, "--output", output, "--report", "report.json",
                       "--changes", "changes.jsonl", "--force", *flags)  # fmt: skip
        assert result.exit_code == 0, result.output
        assert Path(source).read_bytes() == before
        lines = Path("changes.jsonl").read_text(encoding="utf-8").splitlines()
        return read_file(Path(output)), read_json(Path("report.json")), list(map(json.loads, lines))

    return run


def write_rows(path, rows, names=("text", "label", "note")):
    items = [dict(zip(names, row, strict=True)) for row in rows]
    suffix = Path(path).suffix
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(items), path)
    elif suffix == ".json":
        Path(path).write_text(json.dumps(items), encoding="utf-8")
    elif suffix == ".jsonl":
        Path(path).write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    else:
        between = "\t" if suffix == ".tsv" else ","
        quoted = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in [names, *rows]]
        text = "".join(between.join(row) + "\n" for row in quoted)
        Path(path).write_text(text, encoding="utf-8", newline="")
    return path


def rows_of(rows):
    return list(zip(*(column.to_pylist() for column in rows.columns.values()), strict=True))


def counts(section):
    return {kind: entry["rows"] for kind, entry in section.items()}


@pytest.mark.parametrize(
    ("text", "mended", "kinds"),
    [
        ("plain 文字 👩\u200d👧 می\u200cخواهم", "plain 文字 👩\u200d👧 می\u200cخواهم", []),
        ("ﬁne ２ ①", "ﬁne ２ ①", []),
        ("a &lt;b&gt; &#38; &#x26; &hellip;", "a <b> & & …", ["HTML entities"]),
        ("a &amp;amp;quot; b", 'a " b', ["HTML entities"]),
        ("a &#38;lt; &amp;#65;", "a < A", ["HTML entities"]),
        ("?a=1&copy=2 AT&T R&D; &nothing;", "?a=1&copy=2 AT&T R&D; &nothing;", []),
        ("\ufeffa\u200bb\u2060c\u00add", "abcd", ["invisible characters"]),
        ("&am\u200bp;", "&", ["invisible characters", "HTML entities"]),
        ("a\x00b\x1bc\x7f", "abc", ["control characters"]),
        ("don\x92t \x93so\x94", "don’t “so”", ["control characters"]),
        ("  a \t\r\n b\u3000c\u00a0", "a b c", ["white space"]),
        ("\ufeff", "", ["invisible characters"]),
        ("", "", []),
    ],
)
def test_a_text_is_repaired_and_the_repairs_are_named(text, mended, kinds):
    assert repair(text) == (mended, tuple(kinds))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("好[哈哈]吧[good][泪]", "好 吧"),
        ("[[哈哈]泪]", "[ 泪]"),
        ("well[lol]done", "well done"),
        ("[bm可爱] [v5] [ok]", ""),
        ("[NAME] and [RELIGION] [SEP] [ALL] [1] [...] [V5]", None),
        ("[of my mother] [longer than] [ninechars] [] [江 南]", None),
    ],
)
def test_short_bracketed_runs_are_masked_and_placeholders_are_not(text, masked):
    expected = text if masked is None else masked
    assert repair(text, mask_emoticons=True)[0] == expected
    assert repair(text) == (text, ())


PIECES = ["&", "amp;", "#38;", "#x26", ";", "lt;", "nbsp;", "[", "]", "哈哈", "a", "B", " ", "\t",
          "\ufeff", "\u200b", "\x00", "\x92", "\u3000", "&#91;", "#35;"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES)).map("".join) | st.text(), st.booleans())
def test_repairing_twice_changes_nothing(text, mask):
    mended, _ = repair(text, mask)
    assert repair(mended, mask) == (mended, ())


def nested(digit, depth):
    """A digit as an entity, whose last digit is an entity …"""
    tens, ones = divmod(48 + digit, 10)
    return f"&#{tens}{nested(ones, depth - 1)};" if depth else str(digit)


def test_a_text_that_does_not_come_to_rest_stays_as_it_is():
    assert repair(nested(4, ROUNDS - 1)) == ("4", ("HTML entities",))
    assert repair(nested(4, ROUNDS) + " ") == (nested(4, ROUNDS) + " ", ())
    assert repair("&" + "amp;" * 200_000 + "lt;") == ("<", ("HTML entities",))


@pytest.mark.parametrize("output", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_every_format_becomes_every_format_with_the_same_rows(source, output, cleaned):
    write_rows(f"in.{source}", DIRTY)
    rows, report, changes = cleaned(f"in.{source}", output=f"out.{output}")
    assert rows_of(rows) == [
        ('Tom & Anna, a "lovely" place', "good", "a,b"),
        ("best dumplings in town", "good", "tab\there"),
        ("cold soup", "bad", "two\nlines"),
        ("cold soup", "good", "carriage\rreturn"),
        ('"begins with a quote', "bad", ";|"),
        ("房间很干净[哈哈]，服务也不错", "good", "备注"),
    ]
    assert rows.bad == []
    assert counts(report["left_out"]) == {
        "has no text": 1, "has no label": 1, "carries several labels": 1, "duplicate": 2,
    }  # fmt: skip
    assert counts(report["repaired"]) == {
        "HTML entities": 1, "invisible characters": 2, "white space": 2, "labels": 1,
    }  # fmt: skip
    assert counts(report["kept"]) == {"contradictory labels": 2}
    assert report["labels"] == {"bad": {"before": 3, "after": 2}, "good": {"before": 5, "after": 4}}
    assert [row["before"]["text"] for row in changes if row["left_out"]] == [
        DIRTY[position][0] for position in (2, 5, 6, 7, 8)
    ]


@pytest.mark.parametrize("flags", [(), ("--mask_emoticons",), ("--conflicts", "majority")])
@pytest.mark.parametrize("suffix", FORMATS)
def test_cleaning_what_is_clean_changes_nothing(suffix, flags, cleaned):
    cleaned(write_rows(f"in.{suffix}", DIRTY), *flags, output=f"once.{suffix}")
    _, report, changes = cleaned(f"once.{suffix}", *flags, output=f"twice.{suffix}")
    assert Path(f"once.{suffix}").read_bytes() == Path(f"twice.{suffix}").read_bytes()
    assert report["repaired"] == report["left_out"] == {}
    assert all(row["before"] == row["after"] and not row["left_out"] for row in changes)


def test_every_row_is_written_or_named_as_left_out(cleaned):
    Path("in.csv").write_text("text,label\na,x\nb\n,x\na ,x\nc,x,y\nd,y\n", encoding="utf-8")
    rows, report, changes = cleaned("in.csv")
    assert [(row["line"], row["found"], row["why"]) for row in changes if row["left_out"]] == [
        (3, "cannot be read", "has 1 fields where the first line has 2"),
        (4, "has no text", "has no text"),
        (5, "duplicate", "has the text and label of line 2"),
        (6, "cannot be read", "has 3 fields where the first line has 2"),
    ]
    assert rows_of(rows) == [("a", "x"), ("d", "y")]
    assert (report["read"], report["written"]) == (6, 2)
    assert sum(counts(report["left_out"]).values()) == 4


def test_a_change_says_what_stood_there_and_what_stands_there_now(cleaned):
    _, _, [row] = cleaned(write_rows("in.jsonl", [(" a ", 1.0), ("b", 1)], NAMES_OF_TWO))
    assert row == {
        "file": "in.jsonl", "line": 1, "repaired": ["white space", "labels"], "found": None,
        "why": None, "left_out": False, "before": {"text": " a ", "label": "1.0"},
        "after": {"text": "a", "label": "1"},
    }  # fmt: skip


NAMES_OF_TWO = ("text", "label")
DISPUTED = [("a", "x"), ("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "x")]


@pytest.mark.parametrize(
    ("flags", "left", "kinds"),
    [
        ((), [0, 2, 3, 4, 5], {"duplicate": 1}),
        (("--keep-duplicates",), [0, 1, 2, 3, 4, 5], {}),
        (("--conflicts", "drop"), [5], {"contradictory labels": 5}),
        # The duplicate has its vote before it goes; b is a tie.
        (("--conflicts", "majority"), [0, 5], {"contradictory labels": 3, "duplicate": 1}),
        (("--conflicts", "majority", "--keep_duplicates"), [0, 1, 5], {"contradictory labels": 3}),
    ],
)
def test_contradictory_labels_are_settled_as_told(flags, left, kinds, cleaned):
    rows, report, changes = cleaned(write_rows("in.csv", DISPUTED, NAMES_OF_TWO), *flags)
    assert rows_of(rows) == [DISPUTED[position] for position in left]
    assert counts(report["left_out"]) == kinds
    whys = {row["line"]: row["why"] for row in changes if row["found"] == "contradictory labels"}
    assert whys[5] == "has a text with the labels x (1), y (1)" + ", a tie" * ("majority" in flags)
    assert bool(report["kept"]) == ("--conflicts" not in flags)


def test_only_what_is_written_alike_is_the_same_text(cleaned):
    pairs = [("I love C++", "x"), ("I love C#", "x"), ("great 😀", "x"), ("great 😡", "y"),
             ("-5 degrees", "x"), ("5 degrees", "x"), ("Fine.", "x"), ("fine", "y")]  # fmt: skip
    rows, report, _ = cleaned(write_rows("in.csv", pairs, NAMES_OF_TWO), "--conflicts", "drop")
    assert rows_of(rows) == pairs
    assert report["left_out"] == report["kept"] == {}


def test_labels_are_repaired_too(cleaned):
    labels = ["positive", "positive\u200b", "\ufeffpositive", "nega&amp;tive", "very  bad", "[x]"]
    pairs = [(f"text {index}", label) for index, label in enumerate(labels)]
    flags = ("--mask_emoticons",)
    rows, report, _ = cleaned(write_rows("in.jsonl", pairs, NAMES_OF_TWO), *flags)
    assert [label for _, label in rows_of(rows)] == [
        "positive", "positive", "positive", "nega&tive", "very bad", "[x]",
    ]  # fmt: skip
    assert counts(report["repaired"]) == {"labels": 4}


def test_masking_comes_before_duplicates_and_contradictions(cleaned):
    pairs = [("nice[haha]", "x"), ("nice[sob]", "y"), ("nice[yay]", "x"), ("[wow]", "x")]
    write_rows("in.csv", pairs, NAMES_OF_TWO)
    assert len(cleaned("in.csv")[0]) == 4
    rows, report, _ = cleaned("in.csv", "--mask-emoticons")
    assert rows_of(rows) == [("nice", "x"), ("nice", "y")]
    assert counts(report["left_out"]) == {"duplicate": 1, "has no text": 1}
    assert counts(report["repaired"]) == {"emoticons": 4}
    assert counts(report["kept"]) == {"contradictory labels": 2}


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet"])
def test_other_columns_keep_their_types_where_the_format_has_them(suffix, cleaned):
    rows = [(" a ", 0, 1.5, ["x", "y"]), ("b", 1, None, []), ("", 1, 2.0, ["z"]), ("c", 0, 0.0, [])]
    cleaned(
        write_rows(f"in.{suffix}", rows, ("text", "label", "weight", "tags")),
        output=f"out.{suffix}",
    )
    path = Path(f"out.{suffix}")
    if suffix == "parquet":
        items = pq.read_table(path).to_pylist()
    else:
        text = path.read_text(encoding="utf-8")
        items = json.loads(text) if suffix == "json" else list(map(json.loads, text.splitlines()))
    assert [tuple(item.values()) for item in items] == [("a", *rows[0][1:]), rows[1], rows[3]]


@pytest.mark.parametrize(
    "content",
    [
        '{"data": [{"text": " a", "label": 1}, 7, {"text": "b", "label": 2}]}',
        '{"text": " a", "label": 1}\n\nbroken\n{"text": "b", "label": 2}\n',
    ],
)
def test_json_keeps_its_types_in_every_shape_that_is_read(content, cleaned):
    Path("in.json").write_text(content, encoding="utf-8")
    cleaned("in.json", output="out.json")
    assert read_json(Path("out.json")) == [{"text": "a", "label": 1}, {"text": "b", "label": 2}]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_the_copy_is_utf_8_without_a_byte_order_mark(encoding, cleaned):
    text = "text;label\n房间很干净，服务也不错。;好\n这个地方有人说的不是很大;坏\n"
    Path("in.csv").write_bytes(text.encode(encoding))
    _, report, _ = cleaned("in.csv", output="out.csv")
    assert Path("out.csv").read_bytes() == text.replace(";", ",").encode()
    assert report["repaired"] == {
        "encoding": {"rows": 2, "example": f"{encoding} → utf-8"},
    }


def test_columns_are_found_named_or_given(cleaned):
    Path("in.tsv").write_text("a\t0\tx1\nb\t1\tx2\n", encoding="utf-8")
    rows, _, _ = cleaned("in.tsv", "--column-names", "review,stars,id")
    assert list(rows.columns) == ["review", "stars", "id"]
    flags = ["--column_names", "p,q,r", "--text-column", "r", "--label_column", "q"]
    rows, _, _ = cleaned("in.tsv", *flags)
    assert rows.columns["r"].to_pylist() == ["x1", "x2"]


def test_a_header_of_strange_names_is_read_back(cleaned):
    write_rows("in.jsonl", [("a", "0", "x")], ("a;b;c|d\te", "label", "n"))
    rows, _, _ = cleaned("in.jsonl", "--text_column", "a;b;c|d\te", output="out.csv")
    assert list(rows.columns) == ["a;b;c|d\te", "label", "n"]


def test_the_table_shows_counts_and_examples_whatever_stands_in_them(clean):
    write_rows("in.csv", [("[/b] [good]  morning", "[red]x"), ("b", "y")], NAMES_OF_TWO)
    result = clean("in.csv", "--output", "out.csv")
    assert result.exit_code == 0, result.output
    for part in ("[good]  morning", "white space", "[red]x", "out.csv"):
        assert part in result.stdout


GOOD = "text,label\na,x\nb,y\n"
REFUSED = [
    pytest.param("in.csv", ["in.csv"], 2, "never written to", id="the input"),
    pytest.param("in.csv", ["./in.csv", "--force"], 2, "never written to", id="by another path"),
    pytest.param("in.csv", ["link.csv", "--force"], 2, "never written to", id="by a link"),
    pytest.param("in.csv", ["hard.csv", "--force"], 2, "never written to", id="by a hard link"),
    pytest.param("link.csv", ["in.csv", "--force"], 2, "never written to", id="from a link"),
    pytest.param("in.csv", ["old.csv"], 2, "add --force", id="a file that is there"),
    pytest.param("in.csv", ["a.csv", "--report", "old.csv"], 2, "add --force", id="old report"),
    pytest.param("in.csv", ["a.csv", "--changes", "in.csv", "--force"], 2, "never", id="changes"),
    pytest.param("in.csv", ["a.csv", "--report", "a.csv"], 2, "named twice", id="twice"),
    pytest.param("in.csv", ["folder.csv", "--force"], 2, "a folder or a link", id="a folder"),
    pytest.param("in.csv", ["away.csv", "--force"], 2, "a folder or a link", id="a dangling link"),
    pytest.param("in.csv", ["loop.csv", "--force"], 2, "a folder or a link", id="a loop"),
    pytest.param("loop.csv", ["out.csv"], 65, "no such file", id="a loop as input"),
    pytest.param("in.csv", ["out.xlsx"], 2, "ends in none of .csv", id="another format"),
    pytest.param("in.csv", ["out"], 2, "ends in none of .csv", id="no ending"),
    pytest.param("in.csv", ["old.csv/out.csv"], 1, "old.csv", id="below a file"),
    pytest.param("in.csv", ["o" * 300 + ".csv"], 1, "ooo", id="a name too long"),
    pytest.param("none.csv", ["out.csv"], 65, "no such file", id="no input"),
    pytest.param("folder.csv", ["out.csv"], 65, "no such file", id="a folder as input"),
    pytest.param("bad.csv", ["out.csv"], 65, "no row would be left", id="nothing left"),
    pytest.param("in.csv", ["o.csv", "--text_column", "txt"], 65, "no column 'txt'", id="column"),
    pytest.param("long.jsonl", ["out.csv"], 65, "read back from .csv", id="too long for a CSV"),
]


@pytest.mark.parametrize(("source", "flags", "exit_code", "says"), REFUSED)
def test_what_cannot_be_is_refused_and_nothing_is_touched(source, flags, exit_code, says, clean):
    for name in ("in.csv", "old.csv"):
        Path(name).write_text(GOOD, encoding="utf-8")
    Path("bad.csv").write_text("text,label\n,x\n\u200b,y\n", encoding="utf-8")
    long = [{"text": "a", "label": "x", "note": "a" * 1_000_001}, {"text": "b", "label": "y"}]
    Path("long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in long))
    Path("link.csv").symlink_to("in.csv")
    Path("away.csv").symlink_to("nowhere.csv")
    Path("loop.csv").symlink_to("loop.csv")
    Path("hard.csv").hardlink_to("in.csv")
    Path("folder.csv").mkdir()
    before = everything()
    assert_refused(clean(source, "--output", *flags), exit_code, says)
    assert everything() == before


def test_help_answers_without_the_libraries(tmp_path):
    program = (
        "import runpy, sys; sys.argv = ['clean.py', '--help']\n"
        "try: runpy.run_path(sys.path.pop(), run_name='__main__')\n"
        "except SystemExit: print(sorted({'pyarrow', 'torch', 'numpy', 'rich'} & set(sys.modules)))"
    )
    code = program.replace("sys.path.pop()", repr(str(SCRIPTS / "clean.py")))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "--mask_emoticons" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


# {file: (rows, HTML entities, invisible characters, white space, duplicates, contradictory rows)},
# counted apart from this code with plain dictionaries, contradictory rows without duplicates.
REAL = {
    "weibo_senti_100k/train.csv": (28_931, 1, 2, 1_735, 0, 196),
    "smp2020_ewect_usual/train.tsv": (27_450, 14, 15, 89, 622, 165),
    "smp2020_ewect_usual/dev.tsv": (1_981, 1, 1, 6, 7, 0),
    "chnsenticorp/train.tsv": (9_249, 20, 0, 21, 1_311, 48),
    "chnsenticorp/dev.tsv": (1_160, 2, 0, 2, 21, 2),
    "sst2/train.tsv": (6_913, 0, 0, 0, 7, 0),
    "r8/train.jsonl": (5_479, 0, 0, 0, 57, 8),
    "sst2_glue/train.parquet": (67_327, 0, 0, 67_327, 364, 10),
}
# {file: {policy: rows left out for contradictory labels}}
TEXT_AND_LABEL = {
    "weibo_senti_100k/train.csv": ("review", "label"),
    "smp2020_ewect_usual/train.tsv": ("text_a", "label"),
    "chnsenticorp/train.tsv": ("text_a", "label"),
}
SETTLED = {
    "weibo_senti_100k/train.csv": {"drop": 196, "majority": 196},
    "smp2020_ewect_usual/train.tsv": {"drop": 172, "majority": 162},
    "chnsenticorp/train.tsv": {"drop": 57, "majority": 51},
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL)
def test_public_data_are_cleaned_with_the_counts_that_are_known(name, real_data, cleaned):
    read, entities, invisible, space, duplicates, contradictory = REAL[name]
    suffix = Path(name).suffix
    rows, report, changes = cleaned(real_data / name, output=f"out{suffix}")
    expected = {"HTML entities": entities, "invisible characters": invisible, "white space": space}
    assert counts(report["repaired"]) == {kind: n for kind, n in expected.items() if n}
    assert counts(report["left_out"]).get("duplicate", 0) == duplicates
    assert counts(report["kept"]).get("contradictory labels", 0) == contradictory
    assert report["read"] == read
    assert report["written"] == len(rows) == read - duplicates
    assert sum(row["left_out"] for row in changes) == duplicates
    again = cleaned(f"out{suffix}", output=f"again{suffix}")[1]
    assert again["repaired"] == again["left_out"] == {}
    assert Path(f"out{suffix}").read_bytes() == Path(f"again{suffix}").read_bytes()


@pytest.mark.real_data
@pytest.mark.parametrize("name", SETTLED)
@pytest.mark.parametrize("policy", ["drop", "majority"])
def test_contradictions_in_public_data_are_settled(name, policy, real_data, cleaned):
    source = real_data / name
    rows, report, _ = cleaned(source, "--conflicts", policy, "--keep_duplicates")
    assert counts(report["left_out"]) == {"contradictory labels": SETTLED[name][policy]}
    assert report["kept"] == {}
    labels = {}
    for text, label in zip(
        *(rows.columns[c].to_pylist() for c in TEXT_AND_LABEL[name]), strict=True
    ):
        assert labels.setdefault(text, label) == label


@pytest.mark.real_data
def test_masking_takes_the_emoticons_out_of_every_row_of_weibo(real_data, cleaned):
    rows, report, _ = cleaned(real_data / "weibo_senti_100k" / "train.csv", "--mask_emoticons")
    assert report["repaired"]["emoticons"]["rows"] == 28_931
    assert counts(report["left_out"]) == {"has no text": 163, "duplicate": 27}
    assert counts(report["kept"]) == {"contradictory labels": 198}
    assert not any(
        "[哈哈]" in text or "[泪]" in text for text in rows.columns["review"].to_pylist()
    )


@pytest.mark.real_data
def test_masking_leaves_the_placeholders_of_goemotions(real_data, cleaned):
    source = real_data / "goemotions" / "train_single.parquet"
    before = read_file(source).columns["text"].to_pylist()
    flags = ("--label_column", "label_name", "--keep_duplicates", "--mask_emoticons")
    rows, report, _ = cleaned(source, *flags)
    after = rows.columns["text"].to_pylist()
    assert len(after) == len(before) == 36_031
    for placeholder, number in (("[NAME]", 6_546), ("[RELIGION]", 86)):
        assert sum(text.count(placeholder) for text in before) == number
        assert sum(text.count(placeholder) for text in after) == number
    assert report["repaired"]["emoticons"]["rows"] == 5


FRENCH = "text,label\nvoilà,a\ndéjà vu,b\n"


def test_letters_that_depend_on_the_code_page_are_not_copied_unasked(clean, tmp_path):
    (tmp_path / "in.csv").write_bytes(FRENCH.encode("cp1252"))
    result = clean("in.csv", "--output", "out.csv")
    assert result.exit_code == 65 and not Path("out.csv").exists()
    assert "--encoding cp1252" in result.output.replace("\n", " ")
    assert clean("in.csv", "--output", "out.csv", "--encoding", "cp1252").exit_code == 0
    assert "voilà" in Path("out.csv").read_text(encoding="utf-8")


def test_letters_that_every_page_has_are_copied_with_a_note(clean, tmp_path):
    (tmp_path / "in.csv").write_bytes("text,label\nschön,a\nfür £5,b\n".encode("cp1252"))
    result = clean("in.csv", "--output", "out.csv")
    assert result.exit_code == 0 and "Windows-1252" in result.output
    assert "schön" in Path("out.csv").read_text(encoding="utf-8")


def test_every_orientation_of_json_keeps_its_types(clean, tmp_path):
    columns = {
        "text": {"0": "a  b", "1": "c"},
        "label": {"0": 1, "1": 2},
        "n": {"0": 1.5, "1": [2]},
    }
    Path("in.json").write_text(json.dumps(columns), encoding="utf-8")
    assert clean("in.json", "--output", "out.json").exit_code == 0
    assert json.loads(Path("out.json").read_text(encoding="utf-8")) == [
        {"text": "a b", "label": 1, "n": 1.5}, {"text": "c", "label": 2, "n": [2]}
    ]  # fmt: skip


def test_bytes_that_are_no_text_stay_in_parquet(clean, tmp_path):
    table = pa.table({"text": ["a  b"], "label": ["x"], "image": [b"\xff\xd8"]})
    pq.write_table(table, "in.parquet")
    result = clean("in.parquet", "--output", "out.csv")
    assert result.exit_code == 65 and "ends in .parquet" in result.output.replace("\n", " ")
    assert clean("in.parquet", "--output", "out.parquet").exit_code == 0
    assert pq.read_table("out.parquet")["image"].to_pylist() == [b"\xff\xd8"]


def test_only_one_column_is_mended(clean, tmp_path):
    Path("in.csv").write_text("title,body,label\na,b,x\n", encoding="utf-8")
    result = clean("in.csv", "--output", "out.csv", "--text_column", "title,body")
    assert result.exit_code == 2 and "one is mended at a time" in result.output.replace("\n", " ")
