"""What counts as the same logits when a saved model is read back."""

from types import SimpleNamespace

import numpy as np
import pytest

from textassay.errors import GateError
from textassay.training import publish


@pytest.mark.parametrize(
    ("precision", "size", "difference", "holds"),
    [
        ("fp32", 2.0, 0.0005, True),
        ("fp32", 2.0, 0.002, False),
        ("bf16", 2.0, 0.05, True),
        ("bf16", 2.0, 0.25, False),
        # bf16 rounds a logit of 30 to a quarter: an overfitted model is no broken one.
        ("bf16", 30.0, 0.25, True),
        ("bf16", 30.0, 2.0, False),
        ("bf16", 2.0, float("nan"), False),
    ],
)
def test_the_agreement_grows_with_the_logits(
    precision: str, size: float, difference: float, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = np.array([[size, -size], [0.0, 1.0]])
    answers = iter([logits, logits + difference])
    monkeypatch.setattr(publish, "compute_logits", lambda *_, **__: next(answers))
    monkeypatch.setattr(publish, "encode_texts", lambda *_: ([[1], [2]], [False, False]))
    trained = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device="cpu")]))
    model = SimpleNamespace(to=lambda device: None)
    tokenizer = SimpleNamespace(pad_token_id=0)
    loaded = SimpleNamespace(tokenizer=tokenizer, max_length=8, prompt=None, model=model)
    if holds:
        publish.refuse_disagreement(trained, loaded, ["a", "b"], precision)
        return
    with pytest.raises(GateError, match="does not compute what the trained one does"):
        publish.refuse_disagreement(trained, loaded, ["a", "b"], precision)
