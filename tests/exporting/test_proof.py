"""The rows that judge an export: none that was trained on, and one that is cut."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from tests.models_for_tests import tiny_gpt2
from tests.tables_for_tests import table_of

from textassay.errors import GateError
from textassay.exporting.proof import ProofRows, leave_out_training_rows, with_cut_text
from textassay.models.classifier import load_tokenizer

TABLE = table_of([("a good film", "good"), ("a dull film", "bad"), ("fine", "good")])
ROWS = ProofRows("rows", TABLE["text"].to_pylist(), TABLE)


@pytest.mark.parametrize(
    ("trained_on", "left", "said"),
    [
        (None, 3, "is not known"),
        ([("another film", "good")], 3, "None of these rows"),
        # Texts that differ in case and spaces only are one text, as in a split.
        ([("A  good film", "bad")], 2, "1 row with a text that stands in the training data"),
    ],
)
def test_rows_of_the_training_data_do_not_judge(
    trained_on: list[tuple[str, str]] | None, left: int, said: str
) -> None:
    found = leave_out_training_rows(ROWS, table_of(trained_on) if trained_on else None)
    assert found.validation is not None
    assert len(found.validation) == left
    assert said in found.training_note
    assert found.texts == ROWS.texts


def test_nothing_is_proven_on_training_rows() -> None:
    with pytest.raises(
        GateError, match="each of the 3 rows has a text that stands in the training"
    ):
        leave_out_training_rows(ROWS, TABLE)


def test_a_text_that_is_cut_is_added_where_none_is(tmp_path: Any) -> None:
    tokenizer = load_tokenizer(str(tiny_gpt2(tmp_path)))
    loaded: Any = SimpleNamespace(tokenizer=tokenizer, max_length=32, prompt=None)
    rows = with_cut_text(ROWS, loaded)
    assert rows.texts[:-1] == ROWS.texts
    assert len(tokenizer(rows.texts[-1])["input_ids"]) > 32
    assert with_cut_text(rows, loaded) is rows
    assert with_cut_text(replace(ROWS, texts=[""]), loaded).texts[0] == ""
