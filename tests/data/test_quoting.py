"""No row vanishes in a quoted field: where two readings fit, the rows decide, or nobody does."""

import pytest

from textassay.data.read import read_file
from textassay.errors import DataError
from textassay.prediction.rows import open_source

ORDINARY = [f"The plot is thin in part {n}.;{'neg' if n % 2 else 'pos'}" for n in range(20)]
QUOTATION = ['"This was the best evening.;pos', "Everyone laughed.;pos", 'Nobody left.";neg']


def written(write, lines, header="text;label", name="a.csv"):
    return write(name, "\n".join([header, *lines]) + "\n")


def read(path):
    rows = read_file(path)
    assert open_source(path).rows == len(rows) + len(rows.bad)
    return rows


@pytest.mark.parametrize("at", [0, 10, 20])
def test_a_quotation_over_several_rows_swallows_none(at, write):
    rows = read(written(write, [*ORDINARY[:at], *QUOTATION, *ORDINARY[at:]]))
    assert len(rows) == 23 and set(rows.columns["label"].to_pylist()) == {"pos", "neg"}
    assert rows.columns["text"].to_pylist()[at] == '"This was the best evening.'
    assert f"lines {at + 2} to {at + 4} read as rows" in rows.notes[0]


@pytest.mark.parametrize("header", ["text;label", "label;text"])
def test_a_text_with_line_ends_is_one_text(header, write):
    label_first = header.startswith("label")
    cells = [("Dear sir;\nthank you", "pos"), ("one;\ntwo;\nthree", "neg")] * 3
    lines = [f'{label};"{text}"' if label_first else f'"{text}";{label}' for text, label in cells]
    lines += [f"pos;plain {n}" if label_first else f"plain {n};pos" for n in range(20)]
    rows = read(written(write, lines, header))
    assert rows.columns["text"].to_pylist()[:6] == [text for text, _ in cells]
    assert len(rows) == 26


def test_a_quote_that_swallows_rows_of_a_quoted_file_is_a_bad_row(write):
    quoted = [f'"Thin; really; in part {n}.";{"neg" if n % 2 else "pos"}' for n in range(20)]
    rows = read(written(write, [*quoted, *QUOTATION, *quoted]))
    assert len(rows) == 40
    [bad] = rows.bad
    assert bad.line == 22 and "closes on line 24" in bad.reason


def test_what_nothing_decides_is_refused_with_the_flag(write):
    from textassay.data.options import ReadOptions

    path = written(write, ["first", '"second', 'third"', "fourth"], "text")
    with pytest.raises(DataError, match=r"lines 3 to 4: .*--quotechar") as caught:
        read_file(path)
    assert len(str(caught.value)) < 600
    assert len(read_file(path, ReadOptions.of_flags({"quotechar": "none"}))) == 4
    assert len(read_file(path, ReadOptions.of_flags({"quotechar": '"'}))) == 3


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        (['"He said ""no"" to me"', '"first', 'second"', "third"], 3),
        (['"with, a comma"', '"first', 'second"', "third"], 3),
        (["without, a quote", '"first', 'second"', "third"], 4),
        (['a 5" wall', '"first', 'second"', "third"], 4),
    ],
)
def test_the_other_fields_show_whether_quotes_enclose_texts_of_one_column(lines, count, write):
    assert len(read(written(write, lines, "text"))) == count


def test_rows_of_numbers_and_texts_are_judged_by_what_stands_in_their_columns(write):
    lines = [f"{n % 3},a text of row {n}" for n in range(30)]
    swallowed = ['1,"She said she would come', "2,and she came", '0,with a friend"']
    rows = read(written(write, [*lines, *swallowed], "label,text"))
    assert len(rows) == 33


@pytest.mark.parametrize("row", ['"He said \\"no, {n}\\"",pos', "'It''s no, {n}',pos"])
def test_a_broken_row_does_not_hide_how_the_others_are_written(row, write):
    lines = [row.format(n=n) for n in range(9)]
    rows = read(written(write, [*lines[:5], "one,two,three", *lines[5:]], "text,label"))
    assert [bad.line for bad in rows.bad] == [7]
    assert rows.columns["text"].to_pylist()[8] in ('He said "no, 8"', "It's no, 8")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_rows_around_a_broken_one_are_not_swallowed_unsaid(name, write):
    swallowed = [QUOTATION[0], "a;broken;row", *QUOTATION[1:]]
    lines = [line.replace(";", "\t") if name == "a.tsv" else line for line in swallowed]
    others = [line.replace(";", "\t") if name == "a.tsv" else line for line in ORDINARY]
    header = "text\tlabel" if name == "a.tsv" else "text;label"
    rows = read(written(write, [*others, *lines, *others], header, name))
    assert len(rows) == 40 and [bad.line for bad in rows.bad] == [22]
    assert "closes on line 25" in rows.bad[0].reason
