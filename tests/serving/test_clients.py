"""Requests as other clients write them, by the published interface of text-embeddings-inference."""

import itertools

import pytest
from tests.serving.test_app import ask

TEXTS = ("a good film", "a bad film")


@pytest.mark.parametrize(
    ("raw_scores", "truncate", "direction"),
    list(itertools.product([None, False, True], [None, False, True], [None, "Right"])),
)
@pytest.mark.parametrize("inputs", [TEXTS[0], [[TEXTS[0]], [TEXTS[1]]]])
def test_every_request_of_one_text_each_is_answered(
    local, inputs, raw_scores, truncate, direction
) -> None:
    """`truncate` may be null, all else is left out or given."""
    body = {"inputs": inputs, "truncate": truncate}
    body |= {} if raw_scores is None else {"raw_scores": raw_scores}
    body |= {} if direction is None else {"truncation_direction": direction}
    status, answer = ask(local(), "/predict", body)
    assert status == 200, answer
    for rows in answer if isinstance(inputs, list) else [answer]:
        assert all(sorted(row) == ["label", "score"] for row in rows)
        assert all(type(row["score"]) is float and type(row["label"]) is str for row in rows)
        assert [row["score"] for row in rows] == sorted(row["score"] for row in rows)[::-1]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"inputs": [list(TEXTS)]}, "inputs[0]"),  # a pair in a batch
        ({"inputs": TEXTS[0], "truncation_direction": "Left"}, "truncation_direction"),
    ],
)
def test_what_these_models_cannot_do_is_refused_by_its_name(local, body, where) -> None:
    status, answer = ask(local(), "/predict", body)
    assert (status, answer["error_type"]) == (422, "validation")
    assert answer["error"].startswith(where)
