"""Which delimiter a file has, what its quotes are for, and columns without a name."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textassay.data.dialect import DELIMITERS, find_delimiter, find_dialect
from textassay.data.options import ReadOptions
from textassay.data.read import read_file
from textassay.errors import DataError, UsageError
from textassay.prediction.rows import open_source

ROWS = [(f"The parcel {n}, order {n}; again", "praise" if n % 2 else "complaint") for n in range(9)]


def lines_of(content):
    return [f"{line}\n" for line in content.splitlines()]


def columns_of(path, options=None):
    """The columns of a file, which is read alike whole and streamed."""
    rows = read_file(path, options)
    columns = {name: column.to_pylist() for name, column in rows.columns.items()}
    assert rows.bad == []
    source = open_source(path, next(iter(columns)), options)
    streamed = [row.cells for window in source.windows() for row in window.rows]
    assert streamed == [
        dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
    ]
    return columns


@given(
    st.sampled_from(DELIMITERS),
    st.lists(st.text("abc好 ", min_size=1), min_size=2, max_size=5),
    st.integers(1, 9),
)
def test_the_delimiter_is_the_one_that_splits_the_lines_like_the_header(delimiter, names, rows):
    lines = [delimiter.join(names) + "\n"] * (rows + 1)
    assert find_delimiter(lines, ReadOptions()) == delimiter


@pytest.mark.parametrize(
    ("content", "is_tsv", "delimiter"),
    [
        ("text, or a, b\tlabel\nx\ty\n", True, "\t"),
        ("a;b\tlabel\nx\ty\n", True, "\t"),
        ('"text; of; a; review",label\nx,y\n', False, ","),
        ("text,label\nx,y\n", True, ","),
        ("text;label\nx, y, z;a\nx, y;b\n", False, ";"),
        ("id,and more;label\nx;a\ny;b\nz;a\n", False, ";"),
        ("text,label\nx, y, z,a\nx, y,b\n", False, ","),
        ("text,label\nrow\n", False, ","),
    ],
)
def test_a_delimiter_is_decided_from_many_lines(content, is_tsv, delimiter):
    assert find_delimiter(lines_of(content), ReadOptions(), is_tsv) == delimiter


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize(
    "texts",
    [
        ["order 0, said in haste"] * 9,
        ["The room was clean, quiet, and warm", "Nobody answered", "cold, sadly", "Fine"],
        ["a; b", "c; d"],
    ],
)
def test_a_file_of_one_column_is_never_split(texts, suffix, write):
    path = write(f"a.{suffix}", "text\n" + "".join(f"{text}\n" for text in texts))
    assert columns_of(path) == {"text": texts}


def test_names_say_how_many_columns_a_file_has(write):
    tabs = write("a.csv", "".join(f"{text}, truly\t{label}\n" for text, label in ROWS))
    options = ReadOptions(column_names=["text", "label"])
    assert columns_of(tabs, options)["text"] == [f"{text}, truly" for text, _ in ROWS]


def test_single_quotes_enclose_fields_where_nothing_else_fits(write):
    path = write("a.csv", "".join(f"{label};'It''s {text}'\n" for text, label in ROWS))
    options = ReadOptions(column_names=["label", "text"])
    assert columns_of(path, options)["text"] == [f"It's {text}" for text, _ in ROWS]
    assert "read with ' as" in read_file(path, options).notes[0]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_single_quotes_in_texts_are_apostrophes(end, write):
    texts = ["'Twas the night", "it's", "'quoted' word"]
    path = write("a.csv", "text,label" + end + "".join(f"{text},a{end}" for text in texts))
    assert columns_of(path)["text"] == texts


def test_quotes_may_have_a_backslash_before_them_and_others_stay(write):
    texts = [f'He said "C:\\new {n}", twice' for n in range(9)]
    escaped = [text.replace('"', '\\"') for text in texts]
    path = write("a.csv", "text,label\n" + "".join(f'"{text}",a\n' for text in escaped))
    assert columns_of(path)["text"] == texts
    assert 'with \\"' in read_file(path).notes[0]


def test_the_first_line_may_name_the_separator(write):
    path = write("a.csv", "sep=;\ntext;label\n" + "".join(f'"{t}";{n}\n' for t, n in ROWS))
    assert columns_of(path)["text"] == [text for text, _ in ROWS]
    assert read_file(path).lines.to_pylist()[0] == 3


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_columns_without_a_name_and_value_are_ignored_and_said(end, write):
    path = write("a.csv", f"text,label,,,{end}" + "".join(f'"{t}",{n},,,{end}' for t, n in ROWS))
    assert list(columns_of(path)) == ["text", "label"]
    assert "3 columns without a name" in read_file(path).notes[0]


def test_what_stands_in_a_column_without_a_name_is_kept_and_said(write):
    path = write("a.csv", "label,text,,\nham,one,,\nspam,two, and more,\nham,three,,\n")
    assert columns_of(path)["Unnamed: 2"] == ["", " and more", ""]
    assert "line 3" in read_file(path).notes[1] and "'Unnamed: 2'" in read_file(path).notes[1]


def test_the_index_of_a_data_frame_is_no_surprise(write):
    path = write("a.csv", ",text,label\n0,one,a\n1,two,b\n")
    assert list(columns_of(path)) == ["Unnamed: 0", "text", "label"]
    assert read_file(path).notes == []


def test_empty_fields_behind_the_last_column_are_no_error(write):
    assert columns_of(write("a.csv", "text,label\none,a,,\ntwo,b\n"))["label"] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("# made by hand\n\ntext;label\none;a\n", {"skip_rows": 2}),
        ("text#label\none#a\n", {"delimiter": "#"}),
        ("text\tlabel\none\ta\n", {"delimiter": "tab"}),
        ("text,label\n%one%,%a%\n", {"quotechar": "%"}),
        ("text,label\none,a\n".encode("utf-16-le"), {"encoding": "utf-16-le"}),
        ("text,label\n'one',a\n", {"quotechar": "'"}),
    ],
)
def test_whatever_is_guessed_can_be_said(content, options, write):
    found = columns_of(write("a.csv", content), ReadOptions.of_flags(options))
    assert found == {"text": ["one"], "label": ["a"]}


def test_quotes_belong_to_the_text_if_that_is_said(write):
    path = write("a.csv", 'text,label\n"one",a\n')
    assert columns_of(path)["text"] == ["one"]
    assert columns_of(path, ReadOptions.of_flags({"quotechar": "none"}))["text"] == ['"one"']


def test_an_escape_without_quotes_is_read(write):
    path = write("a.csv", "text;label\none\\; two;a\n")
    options = ReadOptions.of_flags({"quotechar": "none", "escapechar": "\\"})
    assert columns_of(path, options)["text"] == ["one; two"]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ({"encoding": "utf-9"}, "--encoding"), ({"encoding": "base64"}, "--encoding"),
        ({"delimiter": "::"}, "--delimiter"), ({"quotechar": ""}, "--quotechar"),
    ],
)  # fmt: skip
def test_a_flag_that_cannot_be_is_named(flags, names):
    with pytest.raises(UsageError, match=names):
        ReadOptions.of_flags(flags)


def test_a_flag_that_no_file_can_take_is_refused(write):
    path = write("a.jsonl", '{"text": "a", "label": "b"}\n')
    for read in (read_file, lambda path, options: open_source(path, None, options)):
        with pytest.raises(UsageError, match="--delimiter: is for CSV and TSV"):
            read(path, ReadOptions(delimiter=";"))


def test_an_encoding_that_does_not_fit_is_named_with_the_line(write):
    path = write("a.csv", "text,label\nfine,a\nчай,b\n".encode("cp1251"))
    with pytest.raises(DataError, match=r"a\.csv, line 3: is not valid UTF-8.*--encoding"):
        read_file(path, ReadOptions.of_flags({"encoding": "utf-8"}))
    assert read_file(path, ReadOptions(encoding="cp1251")).columns["text"].to_pylist()[1] == "чай"


@given(st.lists(st.tuples(st.text("ab,;\"\\' "), st.sampled_from("xyz")), min_size=1))
def test_what_is_said_is_obeyed(write, rows):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=";", quotechar="'", quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "label"), *rows])
    path = write("a.csv", stream.getvalue())
    options = ReadOptions(delimiter=";", quotechar="'", escapechar="none")
    dialect, _ = find_dialect(path, options)
    assert (dialect.delimiter, dialect.quotechar, dialect.escapechar) == (";", "'", None)
    assert columns_of(path, options) == {
        "text": [text for text, _ in rows], "label": [label for _, label in rows]
    }  # fmt: skip


def test_a_header_is_no_row_of_the_names_that_are_given(write):
    path = write("a.csv", "Text,label\none,a\n")
    with pytest.raises(DataError, match=r"line 1: is a header line.*leave out"):
        read_file(path, ReadOptions(column_names=["text", "label"]))
    options = ReadOptions(column_names=["text", "label"], skip_rows=1)
    assert columns_of(path, options) == {"text": ["one"], "label": ["a"]}


def test_utf_8_that_is_read_as_something_else_on_request_is_said(write):
    rows = read_file(write("a.csv", "text,label\ncafé,a\n"), ReadOptions(encoding="cp1252"))
    assert "is UTF-8 by its bytes and read as Windows-1252" in rows.notes[0]
    assert read_file(write("b.csv", "text\nplain\n"), ReadOptions(encoding="cp1252")).notes == []
