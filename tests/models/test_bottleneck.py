"""The bottleneck adapter is a PEFT method like any other, and starts as next to nothing."""

import copy
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel, get_peft_model
from pydantic import ValidationError
from tests.classifiers_for_tests import (
    ENCODERS,
    FAMILIES,
    ask,
    build,
    ids_of,
    logits_of,
    padded,
    save,
    shake,
    tune,
)
from torch import nn
from transformers import AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

from textassay.config.schema import MethodSection
from textassay.errors import UsageError
from textassay.models import bottleneck
from textassay.models.bottleneck import BottleneckConfig, BottleneckLayer
from textassay.models.classifier import count_parameters
from textassay.models.methods import attach, merge, refuse_unmergeable

LAYERS, WIDTH = 2, 32  # of the tiny models


def attached(base: Path, **method: Any) -> tuple[Any, Any]:
    """A built classifier and, as training begins, its model with the adapter."""
    built = build(base)
    section = MethodSection.model_validate({"name": "bottleneck", **method})
    return built, attach(built, section, str(base))


def layers_of(model: Any) -> dict[str, BottleneckLayer]:
    return {n: m for n, m in model.named_modules() if isinstance(m, BottleneckLayer)}


@pytest.mark.parametrize("family", FAMILIES)
def test_there_is_an_adapter_behind_every_block_and_nothing_else_trains(
    family: str, base_of: Callable[[str], Path]
) -> None:
    size = 8
    built, model = attached(base_of(family), bottleneck_size=size)
    assert len(layers_of(model)) == LAYERS == model.config.num_hidden_layers
    blocks = {type(layer.base_layer).__name__ for layer in layers_of(model).values()}
    assert len(blocks) == 1
    assert blocks.pop().endswith(("Layer", "Block"))
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    kinds = ["bottleneck_down", "bottleneck_up", *built.fresh]
    assert all(any(kind in name for name in trained) for kind in kinds)
    assert all(any(kind in name for kind in kinds) for name in trained)
    plain = model.base_model.model
    heads = [plain.get_submodule(name).modules_to_save for name in built.fresh]
    head = sum(p.numel() for module in heads for p in module.parameters())
    assert head > 0
    adapters = LAYERS * (2 * WIDTH * size + size + WIDTH)
    assert count_parameters(model)[0] == adapters + head


def test_it_starts_with_the_values_that_it_promises(base_of: Callable[[str], Path]) -> None:
    torch.manual_seed(0)
    _, model = attached(base_of("bert"), bottleneck_size=512)
    for layer in layers_of(model).values():
        down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]
        assert down.weight.shape == (512, WIDTH)
        assert up.weight.shape == (WIDTH, 512)
        # Standard error of the deviation of 16384 draws: 0.6 percent.
        assert down.weight.std().item() == pytest.approx(0.01, rel=0.03)
        assert down.weight.mean().abs().item() < 0.0005
        assert 0 < up.weight.abs().max().item() < 1e-3
        assert not down.bias.any()
        assert not up.bias.any()


@pytest.mark.parametrize("size", [1, 64])
@pytest.mark.parametrize("family", FAMILIES)
def test_at_the_start_it_changes_next_to_nothing_but_learns(
    family: str, size: int, base_of: Callable[[str], Path]
) -> None:
    built, model = attached(base_of(family), bottleneck_size=size)
    before = logits_of(built, build(base_of(family)).model)
    np.testing.assert_allclose(logits_of(built, model), before, atol=5e-5)
    rows = ids_of(built.tokenizer, ["a good film", "dull"])
    pad = built.tokenizer.pad_token_id
    ask(model.train(), rows, pad).square().sum().backward()
    for name, parameter in model.named_parameters():
        if "bottleneck_" in name and size > 1:  # with one unit the ReLU may be shut
            assert parameter.grad is not None and parameter.grad.any(), name


@pytest.mark.parametrize("family", FAMILIES)
def test_it_computes_what_the_paper_says(family: str, base_of: Callable[[str], Path]) -> None:
    """h + up(ReLU(down(h))) behind each block, put there by hand with forward hooks."""
    built = build(base_of(family))
    plain = copy.deepcopy(built.model)
    model = tune(built, base_of(family), name="bottleneck", bottleneck_size=8)
    plain.load_state_dict(
        {n.replace("base_layer.", "").replace("modules_to_save.default.", ""): t
         for n, t in model.base_model.model.state_dict().items()
         if "bottleneck_" not in n and "original_module" not in n}
    )  # fmt: skip
    for name, layer in layers_of(model.base_model.model).items():
        down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]

        def hook(_: Any, __: Any, output: Any, down: Any = down, up: Any = up) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            hidden = hidden + up(torch.relu(down(hidden)))
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        plain.get_submodule(name).register_forward_hook(hook)
    found = logits_of(built, model)
    np.testing.assert_allclose(found, logits_of(built, plain), atol=1e-5)
    assert np.abs(found - logits_of(build(base_of(family)))).max() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_it_comes_back_with_the_same_logits(
    family: str, base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    built = build(base_of(family))
    model = tune(built, base_of(family), name="bottleneck", bottleneck_size=8)
    loaded = save(tmp_path, model, built.tokenizer)
    before = logits_of(built, model)
    np.testing.assert_allclose(logits_of(loaded), before, atol=1e-6)
    # And with PEFT alone.
    torch.manual_seed(0)
    base = AutoModelForSequenceClassification.from_pretrained(base_of(family), config=model.config)
    again = PeftModel.from_pretrained(base, tmp_path)
    np.testing.assert_allclose(logits_of(built, again.eval()), before, atol=1e-6)
    assert not any(p.requires_grad for n, p in again.named_parameters() if "bottleneck_" in n)


SCRIPT = """
import sys
import numpy as np
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification
from textassay.models.bottleneck import register
base, adapter, batch, answer = sys.argv[1:]
register()
register()
config = AutoConfig.from_pretrained(adapter)
model = AutoModelForSequenceClassification.from_pretrained(base, config=config)
model = PeftModel.from_pretrained(model, adapter).eval()
with torch.inference_mode():
    np.save(answer, model(**torch.load(batch)).logits.numpy())
"""


@pytest.mark.slow
def test_a_fresh_process_that_calls_register_gets_the_same_logits(
    base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    built = build(base_of("llama"))
    model = tune(built, base_of("llama"), name="bottleneck", bottleneck_size=8)
    save(tmp_path / "adapter", model, built.tokenizer)
    rows = ids_of(built.tokenizer, ["a good film", "dull and far too long"])
    batch = padded(rows, built.tokenizer.pad_token_id)
    torch.save(batch, tmp_path / "batch.pt")
    paths = [base_of("llama"), tmp_path / "adapter", tmp_path / "batch.pt", tmp_path / "answer.npy"]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *map(str, paths)],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    with torch.inference_mode():
        before = model(**batch).logits.numpy()
    np.testing.assert_allclose(np.load(paths[-1]), before, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_several_adapters_live_side_by_side_and_can_be_switched_off(
    family: str, base_of: Callable[[str], Path]
) -> None:
    built = build(base_of(family))
    nothing = logits_of(built)
    model = tune(built, base_of(family), name="bottleneck", bottleneck_size=8)
    first = logits_of(built, model)
    config = BottleneckConfig(task_type="SEQ_CLS", bottleneck_size=4, modules_to_save=built.fresh)
    model.add_adapter("second", config)
    np.testing.assert_array_equal(logits_of(built, model), first)
    idle = [p for n, p in model.named_parameters() if ".second" in n]
    assert idle and not any(p.requires_grad for p in idle)
    model.set_adapter("second")
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert all("second" in name for name in trained)
    assert {n.split(".second")[0].rpartition(".")[2] for n in trained} >= {
        "bottleneck_down", "bottleneck_up", "modules_to_save",
    }  # fmt: skip
    torch.manual_seed(2)
    shake(model)
    second = logits_of(built, model)
    assert np.abs(second - first).max() > 0.01
    model.set_adapter("default")
    np.testing.assert_array_equal(logits_of(built, model), first)
    with model.disable_adapter():
        np.testing.assert_array_equal(logits_of(built, model), nothing)
    np.testing.assert_array_equal(logits_of(built, model), first)
    model.delete_adapter("default")
    np.testing.assert_array_equal(logits_of(built, model), second)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_gives_the_same_gradients(
    family: str, base_of: Callable[[str], Path]
) -> None:
    built = build(base_of(family))
    model = tune(built, base_of(family), name="bottleneck", bottleneck_size=8)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    model.config.attention_dropout = 0.0
    rows = ids_of(built.tokenizer, ["a good film", "dull and far too long"])
    found, calls = [], []
    block = next(iter(layers_of(model).values())).base_layer
    inner = next(m for m in block.modules() if isinstance(m, nn.Linear | Conv1D))
    inner.register_forward_pre_hook(lambda *_: calls.append(1))
    for checkpointing in (False, True):
        model.train().zero_grad()
        if checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": False})
        calls.clear()
        ask(model, rows, built.tokenizer.pad_token_id).square().sum().backward()
        assert len(calls) == (2 if checkpointing else 1), "checkpointing runs a block again"
        found.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        assert grad is not None and grad.any(), name
        torch.testing.assert_close(found[1][name], grad, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_it_cannot_be_merged_and_says_so(family: str, base_of: Callable[[str], Path]) -> None:
    built = build(base_of(family))
    model = tune(built, base_of(family), name="bottleneck", bottleneck_size=8)
    before = logits_of(built, model)
    with pytest.raises(UsageError, match=r"save_merged: bottleneck cannot be merged .*leave"):
        refuse_unmergeable(model)
    with pytest.raises(UsageError, match=r"bottleneck: .*cannot be merged .*ship the adapter"):
        merge(model)
    with pytest.raises(ValueError, match="linear map"):
        model.merge_adapter()
    np.testing.assert_array_equal(logits_of(built, model), before)


def test_registering_twice_does_nothing() -> None:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    bottleneck.register()
    members, classes = list(PeftType), dict(PEFT_TYPE_TO_CONFIG_MAPPING)
    bottleneck.register()
    assert list(PeftType) == members
    assert classes == PEFT_TYPE_TO_CONFIG_MAPPING
    assert [m.value for m in PeftType].count("BOTTLENECK") == 1
    assert PeftType("BOTTLENECK") is PeftType.BOTTLENECK == "BOTTLENECK"
    assert classes[PeftType.BOTTLENECK] is BottleneckConfig
    assert BottleneckConfig().peft_type is PeftType.BOTTLENECK


@pytest.mark.parametrize(
    ("family", "target", "count"),
    [
        ("bert", ["output"], 4),
        ("bert", ["attention.output", "intermediate.dense"], 4),
        ("bert", r".*layer\.1\.output", 1),
        ("llama", ["mlp"], 2),
        ("llama", ["self_attn", "mlp"], 4),
        ("gpt2", ["attn"], 2),
        ("llama", ["up_proj", "k_proj"], 4),
    ],
)
def test_target_modules_say_where_else_it_goes(
    family: str, target: Any, count: int, base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    built = build(base_of(family))
    model = tune(built, base_of(family), name="bottleneck", target_modules=target)
    assert len(layers_of(model)) == count
    np.testing.assert_allclose(
        logits_of(save(tmp_path, model, built.tokenizer)), logits_of(built, model), atol=1e-6
    )


def test_a_target_that_is_not_there_and_a_width_of_nothing_are_refused(
    base_of: Callable[[str], Path],
) -> None:
    with pytest.raises(UsageError, match=r"method\.target_modules: .*no module blocks"):
        attached(base_of("bert"), target_modules=["blocks"])
    with pytest.raises(ValidationError, match="bottleneck_size must be 1 or more"):
        attached(base_of("bert"), bottleneck_size=0)
    with pytest.raises(UsageError, match="bottleneck_siz"):
        from textassay.config.load import resolve_job

        given = {"method.name": "bottleneck", "method.bottleneck_siz": "8"}
        resolve_job(None, None, {}, given, "lora")


@pytest.mark.parametrize("family", ENCODERS)
def test_it_works_without_our_head_too(family: str, base_of: Callable[[str], Path]) -> None:
    """`get_peft_model` on any transformers model, through PEFT's own door."""
    from transformers import AutoModel

    bottleneck.register()
    plain = AutoModel.from_pretrained(base_of(family)).eval()
    ids = torch.randint(5, 60, (2, 7))
    with torch.inference_mode():
        before = plain(input_ids=ids).last_hidden_state
        model = get_peft_model(plain, BottleneckConfig(bottleneck_size=2)).eval()
        found = model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(found, before, atol=1e-4, rtol=0)
    assert count_parameters(model)[0] == math.prod([LAYERS, 2 * WIDTH * 2 + 2 + WIDTH])


@pytest.mark.parametrize(
    ("family", "modules"), [("gpt2", ["mlp.c_fc"]), ("bert", ["query", "intermediate.dense"])]
)
def test_it_goes_behind_linear_layers_as_well(
    family: str, modules: list[str], base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    built = build(base_of(family))
    model = tune(built, base_of(family), name="bottleneck", target_modules=modules)
    before = logits_of(built, model)
    np.testing.assert_allclose(logits_of(save(tmp_path, model, built.tokenizer)), before, atol=1e-6)


@pytest.mark.parametrize("module", ["encoder", "intermediate"])
def test_a_module_that_puts_out_something_else_is_named(
    module: str, base_of: Callable[[str], Path]
) -> None:
    built, model = attached(base_of("bert"), target_modules=[module])
    with pytest.raises(UsageError, match=r"target_modules: Bert\w+ does not put out hidden states"):
        logits_of(built, model)
