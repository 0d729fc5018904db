"""Heads and units that are cut out are gone from the weights, and nothing else has changed."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.classifiers_for_tests import (
    FAMILIES,
    LABELS,
    LENGTH,
    ask,
    build,
    ids_of,
    logits_of,
    resized,
    save,
    shake,
)
from tests.models_for_tests import TEXTS, tiny_bert, tiny_llama
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForSequenceClassification, ConvBertConfig

from textassay.config.schema import ModelSection
from textassay.data.prompt import Prompt
from textassay.errors import UsageError
from textassay.models.classifier import build_classifier, count_parameters, skeleton
from textassay.models.pruning import Sizes, keep_heads, keep_units, sizes_of
from textassay.models.source import find_model
from textassay.pruning.importance import closed, gated

HEADS = 4
WIDE = {"hidden_size": 64, "num_attention_heads": HEADS, "head_dim": 16}
# Four heads of 16; Llama's have a key and value each, Qwen2's share one between two.
SIZES: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 64, "num_attention_heads": HEADS},
    "roberta": {"hidden_size": 64, "num_attention_heads": HEADS},
    "distilbert": {"dim": 64, "n_heads": HEADS},
    "gpt2": {"n_embd": 64, "n_head": HEADS, "n_inner": 64},
    "llama": {**WIDE, "num_key_value_heads": HEADS},
    "qwen2": {**WIDE, "num_key_value_heads": 2},
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    def make(family: str) -> Path:
        small = FAMILIES[family](tmp_path_factory.mktemp(family))
        return resized(small, tmp_path_factory.mktemp(f"wide-{family}"), **SIZES[family])

    return {family: make(family) for family in FAMILIES}


def tuned(base: Path, **model: Any) -> Any:
    """A classifier whose every weight has moved: no bias is 0, no two units are alike."""
    built = build(base, **model)
    torch.manual_seed(1)
    shake(built.model)
    return built


def some(count: int, keep: int, layers: int = 2) -> list[list[int]]:
    """Other ones in each layer."""
    chosen = random.Random(0)
    return [sorted(chosen.sample(range(count), keep)) for _ in range(layers)]


def cut(built: Any, groups: int, units: int) -> tuple[np.ndarray, Sizes]:
    """Cut the model; the logits that it had with the same heads and units switched off."""
    sizes = sizes_of(built.model)
    heads, kept = some(sizes.groups, groups), some(sizes.units, units)
    with gated(built.model, closed(heads, sizes.groups), closed(kept, sizes.units)):
        masked = logits_of(built)
    keep_heads(built.model, heads)
    keep_units(built.model, kept)
    return masked, sizes


@pytest.mark.parametrize("family", FAMILIES)
def test_cut_out_is_switched_off(family: str, bases: dict[str, Path], tmp_path: Path) -> None:
    built = tuned(bases[family])
    whole = logits_of(built)
    groups = sizes_of(built.model).groups
    masked, before = cut(built, groups - 1, 24)
    assert np.abs(masked - whole).max() > 0.01
    np.testing.assert_allclose(logits_of(built), masked, atol=1e-5)
    after = sizes_of(built.model)
    assert after == Sizes(HEADS - before.grouped, 16, before.grouped, 24)
    again = save(tmp_path, built.model, built.tokenizer)
    np.testing.assert_allclose(logits_of(again), masked, atol=1e-5)
    assert sizes_of(again.model) == after
    assert sizes_of(skeleton(again.model.config)) == after


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_taken_away_is_nothing_changed(family: str, bases: dict[str, Path]) -> None:
    built = tuned(bases[family])
    whole, config = logits_of(built), built.model.config.to_dict()
    sizes = sizes_of(built.model)
    keep_heads(built.model, [list(range(sizes.groups))] * 2)
    keep_units(built.model, [list(range(sizes.units))] * 2)
    np.testing.assert_array_equal(logits_of(built), whole)
    assert built.model.config.to_dict() == config


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_and_work_fall_as_computed(family: str, bases: dict[str, Path]) -> None:
    built = tuned(bases[family])
    parameters, work = count_parameters(built.model)[1], flops(built)
    sizes = sizes_of(built.model)
    cut(built, sizes.groups // 2, 24)
    biased, gates = family not in ("llama", "qwen2"), 2 if family in ("llama", "qwen2") else 1
    query = (64 + (biased or family == "qwen2")) * 16
    per_group = query * sizes.grouped + 2 * query + 64 * 16 * sizes.grouped
    per_unit = gates * (64 + biased) + 64
    gone = 2 * (sizes.groups // 2 * per_group + (sizes.units - 24) * per_unit)
    assert parameters - count_parameters(built.model)[1] == gone
    assert flops(built) < 0.75 * work


def flops(built: Any) -> int:
    ids = ids_of(built.tokenizer, TEXTS[:1])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ask(built.model, ids, built.tokenizer.pad_token_id)
    return int(counter.get_total_flops())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_attention_and_any_padding(
    family: str, attention: str, bases: dict[str, Path]
) -> None:
    built = tuned(bases[family])
    masked, _ = cut(built, 1, 24)
    built.model.set_attn_implementation(attention)
    rows, pad = ids_of(built.tokenizer, TEXTS), built.tokenizer.pad_token_id
    with torch.no_grad():
        np.testing.assert_allclose(ask(built.model, rows, pad, extra=5), masked, atol=1e-5)
        np.testing.assert_allclose(ask(built.model, rows[1:2], pad), masked[1:2], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_transformers_loads_it_or_fails_loudly(
    family: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    built = tuned(bases[family])
    masked, _ = cut(built, sizes_of(built.model).groups // 2, 24)
    save(tmp_path, built.model, built.tokenizer)
    if family in ("llama", "qwen2"):  # their config knows heads of any size
        plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
        np.testing.assert_allclose(logits_of(built, plain), masked, atol=1e-5)
        assert "pruned" not in built.model.config.textassay
        return
    assert built.model.config.textassay["pruned"] == {"num_attention_heads": 2}
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_units_alone_need_nothing_of_ours(
    family: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    built = tuned(bases[family])
    masked, _ = cut(built, sizes_of(built.model).groups, 24)
    save(tmp_path, built.model, built.tokenizer)
    assert "pruned" not in built.model.config.textassay
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    np.testing.assert_allclose(logits_of(built, plain), masked, atol=1e-5)


def test_a_count_that_the_librarys_config_refuses(bases: dict[str, Path], tmp_path: Path) -> None:
    """Llama's config wants heads that divide the hidden size; 3 do not divide 64."""
    built = tuned(bases["llama"])
    masked, _ = cut(built, 3, 24)
    assert built.model.config.textassay["pruned"] == {"num_attention_heads": 3}
    again = save(tmp_path, built.model, built.tokenizer)
    np.testing.assert_allclose(logits_of(again), masked, atol=1e-5)
    cut(again, 2, 16)
    assert "pruned" not in again.model.config.textassay
    twice = save(tmp_path / "twice", again.model, again.tokenizer)
    assert sizes_of(twice.model) == Sizes(2, 16, 1, 16)
    np.testing.assert_allclose(logits_of(twice), logits_of(again), atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "gpt2", "qwen2"])
def test_a_pruned_model_is_a_base_like_any_other(
    family: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    built = tuned(bases[family])
    masked, _ = cut(built, sizes_of(built.model).groups // 2, 24)
    save(tmp_path / "once", built.model, built.tokenizer)
    section = ModelSection(max_seq_length=LENGTH)
    again = build_classifier(find_model(str(tmp_path / "once")), LABELS, section, None)
    assert not again.unfilled
    np.testing.assert_allclose(logits_of(again), masked, atol=1e-5)
    saved = save(tmp_path / "twice", again.model, again.tokenizer)
    np.testing.assert_allclose(logits_of(saved), masked, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "head"), [(tiny_bert, "mlp"), (tiny_llama, "label_scoring")], ids=["mlp", "scoring"]
)
def test_other_heads_stay(make: Any, head: str, tmp_path: Path) -> None:
    prompt = Prompt("Review: ", " It is") if head == "label_scoring" else None
    built = tuned(make(tmp_path / "base"), head=head, prompt=prompt)
    cut(built, 1, 24)
    again = save(tmp_path / "cut", built.model, built.tokenizer)
    assert sizes_of(again.model) == Sizes(1, 16, 1, 24)
    ids, pad = again.ids(TEXTS), again.tokenizer.pad_token_id
    with torch.no_grad():
        theirs = ask(again.model, ids, pad), ask(built.model, ids, pad)
    np.testing.assert_allclose(*theirs, atol=1e-5)


def test_a_count_of_heads_that_cannot_be_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    built = tuned(bases["bert"])
    config = built.model.config
    for heads in (0, 5):
        config.textassay = {**config.textassay, "pruned": {"num_attention_heads": heads}}
        with pytest.raises(UsageError, match="it was changed"):
            skeleton(config)


def test_another_structure_is_refused() -> None:
    from transformers import T5Config, T5ForSequenceClassification

    with torch.device("meta"):
        model = T5ForSequenceClassification(T5Config(num_layers=1, num_decoder_layers=1))
    with pytest.raises(UsageError, match="this model has others"):
        sizes_of(model)


def test_attention_with_weights_that_no_part_names_is_refused() -> None:
    """Convolutions over heads would be cut at the wrong places, or end in a traceback."""
    config = ConvBertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, embedding_size=32, head_ratio=2, conv_kernel_size=3,
    )  # fmt: skip
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(UsageError, match="convbert: heads and units are known in layers like"):
        sizes_of(model)
