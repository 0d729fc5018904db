"""The faster DoRA gives what PEFT's gives: logits, gradients, trained weights, files."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import LoraLayer
from peft.tuners.lora.variants import DoraLinearVariant
from tests.models_for_tests import tiny_bert, tiny_llama
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

from textassay.models import cpu
from textassay.models.dora import FusedDoraVariant, row_norms, speed_up_dora

DENSE = ["query", "key", "value", "intermediate.dense", "output.dense"]
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def base(tmp_path) -> nn.Module:
    """A BERT whose linear layers have a bias, without dropout of its own."""
    return _classifier(tiny_bert(tmp_path / "base"))


def _classifier(folder: Any) -> nn.Module:
    config = AutoConfig.from_pretrained(folder, num_labels=3, pad_token_id=0)
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")


def _pair(model: nn.Module, **settings: Any) -> tuple[PeftModel, PeftModel]:
    """The same model with DoRA twice, the second sped up; B and magnitudes as if trained."""
    chosen = {"target_modules": DENSE, "r": 4, "lora_alpha": 8, "use_dora": True, **settings}
    torch.manual_seed(1)
    plain = get_peft_model(copy.deepcopy(model), LoraConfig(task_type="SEQ_CLS", **chosen))
    _disturb(plain)
    fast = copy.deepcopy(plain)
    speed_up_dora(fast)
    return plain, fast


def _disturb(model: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
            elif "magnitude" in name:
                parameter.mul_(1 + 0.2 * torch.rand_like(parameter))


def _batch(seed: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 60, (4, 12), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 1, 2, 0])}


def _variants(model: nn.Module) -> Iterator[Any]:
    for module in model.modules():
        if isinstance(module, LoraLayer):
            yield from module.lora_variant.values()


def _train(model: nn.Module, steps: int) -> None:
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.05)
    for step in range(steps):
        torch.manual_seed(step)
        model(**_batch(step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def _assert_same_step(plain: nn.Module, fast: nn.Module) -> None:
    """Equal logits and equal gradients of every trained tensor, with the same random masks."""
    logits = []
    for model in (plain, fast):
        torch.manual_seed(3)
        output = model(**_batch())
        output.loss.backward()
        logits.append(output.logits)
    torch.testing.assert_close(*logits, **CLOSE)
    trained = [name for name, p in plain.named_parameters() if p.requires_grad]
    assert any("magnitude" in name for name in trained)
    found = dict(fast.named_parameters())
    for name, parameter in plain.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
            torch.testing.assert_close(found[name].grad, parameter.grad, **CLOSE)
        else:
            assert found[name].grad is None


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lora_dropout": 0.3},
        {"use_rslora": True},
        {"bias": "lora_only"},
        {"rank_pattern": {"query": 1}},
    ],
    ids=["dropout 0", "dropout", "rslora", "bias trained", "ranks"],
)
def test_logits_and_gradients_are_those_of_peft(base, settings) -> None:
    plain, fast = _pair(base, **settings)
    assert {type(variant) for variant in _variants(plain)} == {DoraLinearVariant}
    assert {type(variant) for variant in _variants(fast)} == {FusedDoraVariant}
    _assert_same_step(plain.train(), fast.train())


def test_layers_without_a_bias_too(tmp_path) -> None:
    plain, fast = _pair(_classifier(tiny_llama(tmp_path)), target_modules=PROJECTIONS)
    assert len(list(_variants(fast))) == 2 * len(PROJECTIONS)
    _assert_same_step(plain.train(), fast.train())


def test_a_bf16_model_with_adapters_in_fp32_is_computed_in_fp32_in_between(base) -> None:
    plain, fast = _pair(base.bfloat16())
    assert {p.dtype for p in fast.parameters()} == {torch.float32, torch.bfloat16}
    results = []
    for model in (plain, fast):
        layer = next(m for m in model.modules() if isinstance(m, LoraLayer))
        torch.manual_seed(3)
        results.append(layer(torch.randn(6, 32, dtype=torch.bfloat16)))
    assert results[1].dtype is torch.bfloat16
    # Equal but for the last of bf16's eight bits, where fp32 sums fell on both sides of a tie.
    torch.testing.assert_close(*results, atol=0, rtol=2**-7)
    assert (results[0] != results[1]).float().mean() < 0.02


def test_evaluation_of_a_model_with_dropout(base) -> None:
    plain, fast = _pair(base, lora_dropout=0.3)
    with torch.no_grad():
        results = [model.eval()(**_batch()).logits for model in (plain, fast)]
    torch.testing.assert_close(*results, **CLOSE)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_several_steps_lead_to_the_same_weights(base, dropout) -> None:
    plain, fast = _pair(base, lora_dropout=dropout)
    before = {name: p.detach().clone() for name, p in fast.named_parameters()}
    for model in (plain, fast):
        _train(model.train(), 5)
    found = dict(fast.named_parameters())
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name
        torch.testing.assert_close(found[name], parameter, **CLOSE)
    _assert_same_step(plain, fast)


def test_merged_weights_are_those_of_peft(base) -> None:
    plain, fast = _pair(base)
    for model in (plain, fast):
        _train(model.train(), 3)
    unmerged = fast.eval()(**_batch()).logits
    merged = [model.eval().merge_and_unload(safe_merge=True) for model in (plain, fast)]
    torch.testing.assert_close(merged[1](**_batch()).logits, unmerged, **CLOSE)
    for one, other in zip(*(model.parameters() for model in merged), strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def test_merging_in_between_leaves_nothing_behind(base) -> None:
    plain, fast = _pair(base)
    for model in (plain, fast):
        _train(model.train(), 2)
        model.merge_adapter()
        model(**_batch())
        model.unmerge_adapter()
        _train(model, 1)
    _assert_same_step(plain, fast)


def test_other_base_weights_are_noticed(base) -> None:
    plain, fast = _pair(base)
    for model in (plain, fast):
        model(**_batch())
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, LoraLayer):
                    module.get_base_layer().weight.data.mul_(1.5)
    _assert_same_step(plain, fast)


def test_plain_peft_reads_what_was_saved(base, tmp_path) -> None:
    plain, fast = _pair(base)
    assert list(fast.state_dict()) == list(plain.state_dict())
    _train(fast.train(), 3)
    fast.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "adapter")
    assert {type(variant) for variant in _variants(loaded)} == {DoraLinearVariant}
    results = [model.eval()(**_batch()).logits for model in (loaded, fast)]
    torch.testing.assert_close(*results, **CLOSE)


def test_adapters_switched_off_and_switched(base) -> None:
    plain, fast = _pair(base)
    results: list[list[torch.Tensor]] = []
    for model in (plain, fast):
        torch.manual_seed(4)
        config = LoraConfig(task_type="SEQ_CLS", target_modules=DENSE, r=2, use_dora=True)
        model.add_adapter("second", config)
        torch.manual_seed(5)
        _disturb(model)
        if model is fast:
            speed_up_dora(model)
            assert {type(variant) for variant in _variants(model)} == {FusedDoraVariant}
        model.eval()
        found = [model(**_batch()).logits]
        model.set_adapter("second")
        found.append(model(**_batch()).logits)
        for module in model.modules():
            if isinstance(module, LoraLayer):
                module.set_adapter(["default", "second"])
        found.append(model(**_batch()).logits)
        with model.disable_adapter():
            found.append(model(**_batch()).logits)
        results.append(found)
    assert not torch.allclose(results[0][0], results[0][1])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def test_bf16_under_autocast_is_as_close_to_fp32_as_peft_is(base) -> None:
    exact, fast = _pair(base)
    plain = copy.deepcopy(exact)
    exact(**_batch()).loss.backward()
    wanted = {n: p.grad for n, p in exact.named_parameters() if p.requires_grad}
    errors = []
    for model in (plain, fast):
        cpu.speed_up(model, "bf16")
        assert {type(variant) for variant in _variants(model)} == {FusedDoraVariant}
        for module in model.modules():
            if model is plain and isinstance(module, LoraLayer):
                module.lora_variant["default"] = DoraLinearVariant()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**_batch()).loss
        loss.backward()
        found = dict(model.named_parameters())
        errors.append(sum((found[n].grad - g).norm() / g.norm() for n, g in wanted.items()))
    assert 0 < errors[1] < 1.25 * errors[0]


class Mixed(nn.Module):
    """One layer of each kind that PEFT adapts with DoRA, and one that is left as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(60, 8)
        self.linear = nn.Linear(8, 8)
        self.transposed = Conv1D(8, 8)
        self.conv = nn.Conv1d(8, 8, 1)
        self.other = nn.Linear(8, 8)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        hidden = self.transposed(self.linear(self.words(ids)))
        return self.other(self.conv(hidden.transpose(1, 2)).transpose(1, 2))


def test_only_linear_layers_with_dora_are_touched() -> None:
    targets = ["words", "linear", "transposed", "conv"]
    model = get_peft_model(Mixed(), LoraConfig(target_modules=targets, r=2, use_dora=True))
    _disturb(model)
    before = dict(model.named_modules())
    ids = torch.randint(0, 60, (3, 5))
    expected = model(ids)
    speed_up_dora(model)
    kinds = {name: type(getattr(model.base_model.model, name).lora_variant["default"])
             for name in targets}  # fmt: skip
    assert kinds.pop("linear") is FusedDoraVariant
    assert FusedDoraVariant not in kinds.values()
    assert dict(model.named_modules()) == before
    torch.testing.assert_close(model(ids), expected, **CLOSE)


def test_lora_is_left_as_it_is(base) -> None:
    plain, fast = _pair(base, use_dora=False)
    assert not list(_variants(fast))
    assert torch.equal(*(model(**_batch()).logits for model in (plain, fast)))


def test_row_norms_keep_their_digits_where_the_adapter_cancels_the_weight() -> None:
    torch.manual_seed(0)
    lora_a, lora_b = torch.randn(4, 32), torch.randn(16, 4)
    rest = torch.randn(16, 32) * 1e-3
    weight = rest - 2.0 * lora_b @ lora_a
    exact = (weight.double() + 2.0 * lora_b.double() @ lora_a.double()).norm(dim=1)
    torch.testing.assert_close(
        row_norms(weight, lora_a, lora_b, 2.0).double(), exact, atol=0, rtol=1e-3
    )
