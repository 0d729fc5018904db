"""What counts as the same logits when a saved model is read back."""

from types import SimpleNamespace

import numpy as np
import pytest

from textassay.errors import GateError
from textassay.training import publish


@pytest.mark.parametrize(
    ("precision", "rounding", "difference", "holds"),
    [
        ("fp32", 0.0, 0.0005, True),
        ("fp32", 0.0, 0.002, False),
        ("bf16", 0.01, 0.05, True),
        ("bf16", 0.01, 0.25, False),
        # Where bf16 itself moves these rows by so much, an overfitted model is no broken one.
        ("bf16", 0.1, 0.25, True),
        ("bf16", 0.1, 2.0, False),
        ("bf16", 0.01, float("nan"), False),
        ("bf16", float("nan"), 0.01, False),
    ],
)
def test_what_counts_as_agreement_grows_with_what_the_precision_changes(
    precision: str, rounding: float, difference: float, holds: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    logits = np.array([[2.0, -2.0], [0.0, 1.0]])
    answers = iter([logits + difference, logits, logits - rounding])
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
