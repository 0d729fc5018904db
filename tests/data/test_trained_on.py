"""What an artifact says of the rows that it was trained on."""

import json

import pytest

from textassay.data.trained_on import SETTINGS, TEXT_COLUMN, TrainedOn, trained_on
from textassay.models.source import SETTINGS_KEY


def test_labels_and_column_are_read_from_the_config(tmp_path):
    config = {"id2label": {"0": "none", "1": "racism"}, SETTINGS_KEY: {TEXT_COLUMN: "title,body"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = trained_on(tmp_path)
    assert found == TrainedOn(labels=("none", "racism"), text_column="title,body")
    assert SETTINGS == SETTINGS_KEY


@pytest.mark.parametrize("content", [None, "{", "[]", '{"id2label": 3, "textassay": 4}', "{}"])
def test_where_nothing_is_known_there_is_nothing(content, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert trained_on(tmp_path) == TrainedOn()


@pytest.mark.parametrize(
    ("column", "names", "found"),
    [
        ("title,body", ["title", "body", "label"], "title,body"),
        ("title, body", ["body", "title"], "title, body"),
        ("title,body", ["title", "label"], None),
        ("a,b", ["a,b", "label"], "a,b"),
        ("review", ["text"], None),
        (None, ["text"], None),
    ],
)
def test_a_column_counts_where_a_file_has_all_of_it(column, names, found):
    assert TrainedOn(text_column=column).text_column_in(names) == found
