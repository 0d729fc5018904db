"""What is sent out is said."""

import pytest
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from textassay.training.trackers import CLEARML, WITH_WEIGHTS, what_is_sent


@pytest.mark.parametrize(("tracker", "variable"), sorted(WITH_WEIGHTS.items()))
@pytest.mark.parametrize("value", ["end", "TRUE", "1"])
def test_weights_that_go_out_are_said(tracker, variable, value, monkeypatch) -> None:
    assert tracker in INTEGRATION_TO_CALLBACK
    monkeypatch.delenv(variable, raising=False)
    [before] = what_is_sent([tracker])
    assert before.startswith(f"{tracker} is sent ") and before.endswith("and no weights")
    monkeypatch.setenv(variable, value)
    [after] = what_is_sent([tracker])
    assert after.endswith(f"; the weights too, since {variable} is set")


def test_clearml_is_sent_weights_unless_it_is_told_not_to(monkeypatch) -> None:
    monkeypatch.delenv(CLEARML, raising=False)
    assert "the weights too" in what_is_sent(["clearml"])[0]
    monkeypatch.setenv(CLEARML, "False")
    assert "no weights" in what_is_sent(["clearml"])[0]


def test_tensorboard_sends_nothing_and_no_tracker_is_no_sentence() -> None:
    assert what_is_sent([]) == []
    assert what_is_sent(["tensorboard"])[0].endswith("sends nothing")
