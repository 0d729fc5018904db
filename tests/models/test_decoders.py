"""A decoder's logits depend on the text alone: not on batch mates, padding, or the pad token."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.classifiers_for_tests import (
    ATTENTION,
    DECODERS,
    ask,
    build,
    ids_of,
    logits_of,
    save,
    tune,
)

from textassay.data.prompt import Prompt

CHECKPOINTS = ("tinystories-llama-260k", "tinystories-llama-1m-char")
BASES = [*DECODERS, *(pytest.param(name, marks=pytest.mark.real_data) for name in CHECKPOINTS)]
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("linear", {"name": "full"}),
    "mlp": ("mlp", {"name": "full"}),
    "linear-lora": ("linear", {"name": "lora"}),
    "mlp-dora": ("mlp", {"name": "lora", "use_dora": True}),
    "linear-bottleneck": ("linear", {"name": "bottleneck", "bottleneck_size": 8}),
    "mlp-bottleneck": ("mlp", {"name": "bottleneck", "bottleneck_size": 8}),
    "scoring": ("label_scoring", {"name": "full"}),
    "scoring-lora": ("label_scoring", {"name": "lora"}),
}
# What label scoring asks with; with a head the same words simply belong to the text.
PROMPT = Prompt("", " It was")


@pytest.fixture
def folder_of(base_of: Callable[[str], Path], request: pytest.FixtureRequest) -> Callable[..., Any]:
    """folder_of(base): a tiny base, or one of the real checkpoints beside the public data."""

    def find(name: str) -> Path:
        if name in DECODERS:
            return base_of(name)
        folder: Path = request.getfixturevalue("real_data").parent / "checkpoints" / name
        assert folder.is_dir(), f"{folder}: the checkpoints belong beside the public data"
        return folder

    return find


def make(base: Path, name: str, form: str) -> tuple[Any, Any]:
    """The built classifier and its tuned model."""
    head, method = FORMS[form]
    method = dict(method)
    if method["name"] == "lora":
        method["target_modules"] = ATTENTION.get(name, ["q_proj", "v_proj"])
    built = build(base, head=head, prompt=PROMPT if head == "label_scoring" else None)
    # A whole model shaken as much as an adapter would give huge scores.
    return built, tune(built, base, scale=0.02 if method["name"] == "full" else 0.1, **method)


def texts_for(tokenizer: Any) -> list[str]:
    """Short, long, and with the text of the pad token, often also the end token, in it."""
    pad = tokenizer.pad_token
    return [
        "a good film",
        "once upon a time the food was fine, the service was not",
        f"dull {pad} and far {pad} too long",
        f"warm and funny {pad}",
    ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", BASES)
def test_logits_do_not_depend_on_mates_padded_length_or_side(
    name: str, form: str, folder_of: Callable[[str], Path]
) -> None:
    built, model = make(folder_of(name), name, form)
    pad = built.tokenizer.pad_token_id
    prompt = PROMPT if form.startswith("scoring") else None
    rows = ids_of(built.tokenizer, texts_for(built.tokenizer), prompt)
    assert any(pad in row for row in rows), "the pad token's text must become the pad token"
    with torch.inference_mode():
        alone = torch.cat([ask(model, [row], pad) for row in rows])
        assert alone.isfinite().all()
        assert (alone[0] - alone[1]).abs().max() > 1e-3, "two texts must be told apart"
        for side in ("right", "left"):
            for extra in (0, 3):
                found = ask(model, rows, pad, side, extra)
                torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)
                found = ask(model, rows[1::-1], pad, side, extra)
                torch.testing.assert_close(found, alone[[1, 0]], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", BASES)
def test_a_text_of_nothing_or_of_padding_alone_has_logits_of_its_own(
    name: str, form: str, folder_of: Callable[[str], Path]
) -> None:
    """Padded on the right, as every batch of ours is: transformers pools such a text's first token,
    which on the left is padding."""
    built, model = make(folder_of(name), name, form)
    pad = built.tokenizer.pad_token_id
    texts = ["", built.tokenizer.pad_token, 3 * built.tokenizer.pad_token]
    prompt = PROMPT if form.startswith("scoring") else None
    rows = ids_of(built.tokenizer, texts, prompt)
    mates = [*rows, *ids_of(built.tokenizer, texts_for(built.tokenizer), prompt)]
    with torch.inference_mode():
        alone = torch.cat([ask(model, [row], pad) for row in rows])
        together = ask(model, mates, pad, extra=2)[: len(rows)]
    assert alone.isfinite().all()
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", ["linear-lora", "mlp", "scoring-lora"])
@pytest.mark.parametrize("name", BASES)
def test_the_pad_token_stands_in_model_and_tokenizer_and_is_saved_in_both(
    name: str, form: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    from transformers import AutoConfig, AutoTokenizer

    built, model = make(folder_of(name), name, form)
    pad = built.tokenizer.pad_token_id
    assert pad is not None
    assert model.config.pad_token_id == pad
    loaded = save(tmp_path, model, built.tokenizer)
    assert AutoConfig.from_pretrained(tmp_path).pad_token_id == pad
    assert AutoTokenizer.from_pretrained(tmp_path).pad_token_id == pad
    assert loaded.model.config.pad_token_id == loaded.tokenizer.pad_token_id == pad
    built.prompt = loaded.prompt
    texts = texts_for(built.tokenizer)
    np.testing.assert_allclose(logits_of(loaded, None, texts), logits_of(built, model, texts),
                               atol=1e-5, rtol=1e-5)  # fmt: skip


@pytest.mark.parametrize("form", ["linear-lora", "mlp", "scoring-lora"])
@pytest.mark.parametrize("name", DECODERS)
def test_padding_moves_no_gradient(name: str, form: str, folder_of: Callable[[str], Path]) -> None:
    built, model = make(folder_of(name), name, form)
    pad = built.tokenizer.pad_token_id
    prompt = PROMPT if form.startswith("scoring") else None
    rows = ids_of(built.tokenizer, texts_for(built.tokenizer), prompt)
    found = []
    for side, extra in (("right", 0), ("left", 3)):
        model.zero_grad()
        ask(model, rows, pad, side, extra).square().sum().backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert max(grad.abs().max() for grad in found[0].values()) > 0.1
    for key, grad in found[0].items():
        torch.testing.assert_close(found[1][key], grad, atol=1e-4, rtol=1e-4)
