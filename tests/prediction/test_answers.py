"""What is answered: the likeliest label, or `abstain`, and columns that fit every answer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textassay.errors import UsageError
from textassay.prediction.answers import (
    ABSTAIN,
    Choices,
    answer,
    cells,
    column_names,
    keys,
    no_answer,
    refuse_choices,
)

LABELS = ["bad", "fine", "good", "superb"]
ROWS = st.lists(st.floats(0.001, 1), min_size=4, max_size=4).map(
    lambda row: np.array(row) / sum(row)
)
CHOICES = st.builds(
    Choices,
    top_k=st.none() | st.integers(0, 6),
    threshold=st.none() | st.floats(0, 1),
    prefix=st.sampled_from(["", "new "]),
    problems=st.booleans(),
)


@given(row=ROWS, threshold=st.none() | st.floats(0, 1))
def test_the_likeliest_label_is_answered_unless_it_is_too_unlikely(row, threshold):
    found = answer(row, LABELS, Choices(threshold=threshold))
    assert found["score"] == pytest.approx(row.max(), abs=1e-6)
    sure = threshold is None or found["score"] >= threshold
    assert found["predicted"] == (LABELS[int(row.argmax())] if sure else ABSTAIN)
    assert list(found["probabilities"]) == LABELS
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@given(row=ROWS, count=st.integers(1, 6))
def test_the_best_labels_come_first(row, count):
    shown = answer(row, LABELS, Choices(top_k=count))["probabilities"]
    assert len(shown) == min(count, 4)
    assert list(shown.values()) == sorted(row.round(6), reverse=True)[:count]
    assert all(shown[label] == row.round(6)[LABELS.index(label)] for label in shown)


@given(row=ROWS, choices=CHOICES)
def test_every_answer_fits_its_columns(row, choices):
    names = column_names(LABELS, choices)
    assert len(set(names)) == len(names)
    assert all(name.startswith(choices.prefix) for name in names)
    found, nothing = answer(row, LABELS, choices), no_answer("is broken", choices)
    assert list(found) == list(nothing) == keys(choices)
    filled = dict(zip(names, cells(found, LABELS, choices), strict=True))
    empty = dict(zip(names, cells(nothing, LABELS, choices), strict=True))
    assert filled[choices.prefix + "predicted"] == found[choices.prefix + "predicted"]
    if choices.top_k is None:
        at = f"{choices.prefix}probability of fine"
        assert filled[at] == found[choices.prefix + "probabilities"]["fine"]
    problem = choices.prefix + "problem"
    assert {name for name, cell in empty.items() if cell} == (
        {problem} if choices.problems else set()
    )
    assert filled.get(problem) is None


def test_a_label_called_abstain_and_a_threshold_do_not_go_together():
    refuse_choices(Choices(), [ABSTAIN, "good"])
    refuse_choices(Choices(threshold=0.5), LABELS)
    with pytest.raises(UsageError, match="--threshold"):
        refuse_choices(Choices(threshold=0.5), [ABSTAIN, "good"])
