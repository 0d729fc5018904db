"""CSV and TSV as they are met: what was written is read, to the last row."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tables_for_tests import TEXTS

from textassay.data.delimited import LONGEST_FIELD, Record, batches, records
from textassay.data.dialect import DELIMITERS, find_dialect
from textassay.data.options import ReadOptions
from textassay.errors import DataError

# Texts that try to be mistaken for structure.
NASTY = st.text(st.sampled_from("a b好,;|\"'\n")) | TEXTS
LINE = TEXTS | st.text(st.sampled_from("a \"'\r"))
HEADER = ["text", "label"]


def rows_of(path):
    """The fields of every record; a record with a problem fails the test."""
    found = list(records(find_dialect(path)[0]))
    assert [record for record in found if record.problem] == []
    return [record.fields for record in found]


def problems_of(path):
    return [(r.line, r.problem) for r in records(find_dialect(path)[0]) if r.problem]


def as_csv(rows, **how):
    stream = io.StringIO(newline="")
    csv.writer(stream, **how).writerows(rows)
    return stream.getvalue()


@given(
    st.lists(st.tuples(NASTY, st.sampled_from(["good", "bad"])).map(list)),
    st.sampled_from(DELIMITERS),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_a_csv_writer_writes_is_read_back(write, rows, delimiter, end, quoting):
    content = as_csv([HEADER, *rows], delimiter=delimiter, lineterminator=end, quoting=quoting)
    path = write("a.csv", content)
    try:
        assert rows_of(path) == [HEADER, *rows]
    except DataError as error:  # of so few rows some show nothing: refused, never read wrongly
        assert "does not show which" in str(error)
        options = ReadOptions(quotechar='"', escapechar="none")
        assert [r.fields for r in records(find_dialect(path, options)[0])] == [HEADER, *rows]


@given(st.lists(LINE.map(lambda text: text.replace("\t", " "))))
def test_an_unquoted_tsv_keeps_its_quotes_and_every_row(write, texts):
    # One quote that never closes is what tells such a file from a quoted one.
    texts = [*texts, '"Open the door', "last"]
    content = "text\tlabel\n" + "".join(f"{text}\tx\n" for text in texts)
    path = write("a.tsv", content)
    assert rows_of(path) == [HEADER, *([text, "x"] for text in texts)]
    assert "without quoting" in find_dialect(path)[1][0]


def test_quotes_of_two_rows_that_would_make_one_field_are_two_texts(write):
    lines = ["text\tlabel", '"open\tx', "between\tx", 'close"\tx', "last\tx"]
    path = write("a.tsv", "\n".join(lines))
    assert rows_of(path) == [line.split("\t") for line in lines]


@given(st.lists(LINE.map(lambda text: text.replace("\t", " ").replace('"', "'"))))
def test_the_last_line_counts_without_a_line_end_too(write, texts):
    content = "label\ttext" + "".join(f"\nx\t{text}" for text in [*texts, "end"])
    assert len(rows_of(write("a.tsv", content))) == len(texts) + 2


def test_a_quoted_tsv_loses_its_quotes(write):
    content = 'text\tlabel\n"He said ""no""."\tx\n""\tx\nplain\tx\n'
    assert rows_of(write("a.tsv", content))[1:] == [
        ['He said "no".', "x"],
        ["", "x"],
        ["plain", "x"],
    ]


def test_one_quote_that_opens_and_never_closes_swallows_no_row_of_a_csv(write):
    lines = ["text,label", '"open,x', *(f"row {number},x" for number in range(50))]
    path = write("a.csv", "\n".join(lines))
    assert rows_of(path) == [line.split(",") for line in lines]


def test_a_quote_left_open_in_a_quoted_file_is_named_with_its_line(write):
    path = write("a.csv", 'text,label\n"a, b",x\nplain,x\n"open, it stays,x\nlast,x\n')
    with pytest.raises(DataError, match=r"a\.csv, line 4: a quote is opened here"):
        list(records(find_dialect(path)[0]))


@pytest.mark.parametrize("bad", ["a,b,c", "a"])
@pytest.mark.parametrize("quoted", ["", '"q, r",x\n'], ids=["plain", "quoted"])
def test_a_row_of_another_width_is_a_problem_with_its_line(bad, quoted, write):
    path = write("a.csv", f"text,label\n{quoted}fine,x\n{bad}\nfine,x\n")
    line = 4 if quoted else 3
    fields = bad.count(",") + 1
    assert problems_of(path) == [(line, f"has {fields} fields where the first line has 2")]


def test_the_line_of_a_row_is_the_one_that_it_starts_on(write):
    path = write("a.csv", 'text,label\n\n"one\ntwo\nthree",x\n\nfour,x\n"five\nsix",x\n')
    found = [(r.line, r.fields[0]) for r in records(find_dialect(path)[0])]
    assert found == [(1, "text"), (3, "one\ntwo\nthree"), (7, "four"), (8, "five\nsix")]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_row_with_nul_bytes_is_a_problem(name, write):
    path = write(name, "text\tlabel\nfine\tx\na\0b\tx\n")
    assert problems_of(path) == [(3, "holds NUL bytes")]


@pytest.mark.parametrize(("extra", "found"), [(0, []), (1, [2])])
def test_a_field_that_no_text_could_be_is_a_problem(extra, found, write):
    path = write("a.csv", f"text,label\n{'a' * (LONGEST_FIELD + extra)},x\n")
    assert [line for line, _ in problems_of(path)] == found


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_only_line_feeds_end_a_line(separator, write):
    path = write("a.tsv", f"text\tlabel\none{separator}two\tx\n")
    assert rows_of(path) == [HEADER, [f"one{separator}two", "x"]]


@given(st.integers(0, 30), st.integers(1, 10))
def test_batches_are_the_records_in_order_and_none_is_larger_than_asked(count, size):
    found = [Record(number, []) for number in range(count)]
    made = list(batches(found, size))
    assert [record for batch in made for record in batch] == found
    assert all(len(batch) == size for batch in made[:-1])
    assert all(1 <= len(batch) <= size for batch in made)
