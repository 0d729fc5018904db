"""The CPU speed-ups change no result: dropout in expectation, everything else to rounding."""

import copy

import pytest
import torch
from tests.models_for_tests import tiny_bert, tiny_llama, tiny_roberta
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from textassay.models import cpu


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    mask, scale = cpu.dropout_mask(torch.Size([1000, 1003]), p)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    dropped = 1 - mask.float().mean().item()
    rounded = round(p * 256) / 256
    assert abs(dropped - rounded) < 0.003
    assert scale == pytest.approx(1 / (1 - rounded))


def test_neighbouring_mask_elements_are_independent() -> None:
    torch.manual_seed(0)
    mask = cpu.dropout_mask(torch.Size([1 << 20]), 0.5)[0].float() - 0.5
    for distance in (1, 2, 3, 4, 8):
        correlation = (mask[:-distance] * mask[distance:]).mean().item() / 0.25
        assert abs(correlation) < 0.005


def test_the_gradient_is_dropped_like_the_value() -> None:
    x = torch.randn(7, 33, requires_grad=True)
    y = cpu.cheap_dropout(x, 0.3, training=True)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x, y)


def test_dropout_does_nothing_in_evaluation() -> None:
    x = torch.randn(5, 5)
    assert cpu.CheapDropout(0.5).eval()(x) is x


def test_equal_seeds_give_equal_masks() -> None:
    masks = []
    for _ in range(2):
        torch.manual_seed(7)
        masks.append(cpu.dropout_mask(torch.Size([100]), 0.1)[0])
    assert torch.equal(*masks)


@pytest.mark.parametrize(
    "make", [tiny_bert, tiny_roberta, tiny_llama], ids=["bert", "roberta", "llama"]
)
def test_a_sped_up_model_computes_the_same_logits_and_gradients(make, tmp_path) -> None:
    config = AutoConfig.from_pretrained(make(tmp_path), num_labels=3, pad_token_id=0)
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    torch.manual_seed(0)
    plain = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    fast = copy.deepcopy(plain)
    cpu.speed_up(fast, "fp32")
    assert fast.config._attn_implementation == cpu.ATTENTION
    ids = torch.randint(5, 60, (4, 12))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    results = []
    for model in (plain, fast):
        logits = model.train()(input_ids=ids, attention_mask=mask).logits
        logits.square().sum().backward()
        results.append(logits)
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-4)
    for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-3)


def test_nothing_is_computed_for_positions_that_nobody_reads(tmp_path) -> None:
    config = AutoConfig.from_pretrained(tiny_bert(tmp_path), num_labels=3)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    cpu.speed_up(model, "fp32")
    ids = torch.randint(5, 60, (4, 12))
    last = model.bert(input_ids=ids, output_hidden_states=True).hidden_states
    assert [tuple(hidden.shape[:2]) for hidden in last] == [(4, 12), (4, 12), (4, 1)]


def test_frozen_weights_rounded_once_give_what_autocast_gives() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 4))
    model[0].requires_grad_(False)
    x = torch.randn(8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        before = model(x)
        cpu.speed_up(model, "bf16")
        after = model(x)
    assert torch.equal(before, after)
    assert model[0].weight.dtype is torch.bfloat16
    assert model[1].weight.dtype is torch.float32


def test_embeddings_are_not_rounded_with_the_layer_that_shares_them(tmp_path) -> None:
    config = AutoConfig.from_pretrained(tiny_llama(tmp_path), tie_word_embeddings=True)
    model = AutoModelForCausalLM.from_config(config).requires_grad_(False)
    cpu.speed_up(model, "bf16")
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.lm_head.weight.dtype is torch.float32
    assert model.model.layers[0].mlp.up_proj.weight.dtype is torch.bfloat16
