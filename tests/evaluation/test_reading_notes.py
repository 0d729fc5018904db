"""What was noted while rows were read reaches whoever evaluates, compares or exports with them."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from textassay.data.labels import LabelMap
from textassay.errors import UsageError
from textassay.evaluation import contenders
from textassay.evaluation.compare import other_data
from textassay.exporting import proof

FRENCH = "text;label\ndéjà vu;a\nvoilà;b\nx;y;z\n"


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(contenders, "warn", lines.append)
    monkeypatch.setattr(proof, "warn", lines.append)
    return lines


def test_the_notes_of_a_file_are_said(tmp_path, said):
    path = tmp_path / "a.csv"
    path.write_bytes(FRENCH.encode("cp1252"))
    data = other_data(str(path), None, None, None).model_copy(update={"on_bad_rows": "skip"})
    labels = LabelMap(("a", "b"))
    tuned = SimpleNamespace(run=None, folder=Path(), loaded=SimpleNamespace(labels=labels))
    assert len(contenders.select_rows(tuned, data, None).table) == 2
    assert "Windows-1252" in said[0] and "1 row left out" in said[1]
    said.clear()
    proof.find_proof_rows(tmp_path, None, data)
    assert "Windows-1252" in said[0] and "1 row left out" in said[1]


def test_how_other_rows_are_written_can_be_said(tmp_path):
    data = other_data("a.csv", None, None, None, {"encoding": "latin-1", "delimiter": "tab"})
    assert (data.encoding, data.delimiter) == ("iso8859-1", "\t")
    with pytest.raises(UsageError, match="--delimiter: 'ab'"):
        other_data("a.csv", None, None, None, {"delimiter": "ab"})
    with pytest.raises(UsageError, match="--encoding: says something of other rows"):
        other_data(None, None, None, None, {"encoding": "cp1252"})
