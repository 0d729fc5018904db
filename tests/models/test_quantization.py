"""QLoRA: what is in 4 bits and what is not, that it trains, and that it comes back the same."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.classifiers_for_tests import (
    ATTENTION,
    DECODERS,
    FAMILIES,
    LABELS,
    LENGTH,
    ask,
    build,
    ids_of,
    logits_of,
    resized,
    save,
    stamp_as_is,
    tune,
)
from tests.fork_server import python
from torch import nn
from transformers.pytorch_utils import Conv1D

from textassay.artifacts.adapters import load_adapter, open_adapter
from textassay.artifacts.hallmark import TOLERANCE_QUANTIZED, probe_logits
from textassay.artifacts.kinds import load_artifact
from textassay.artifacts.merging import merged_classifier
from textassay.config.load import resolve_job
from textassay.config.runs import Run
from textassay.config.schema import MethodSection, ModelSection
from textassay.data.prompt import Prompt
from textassay.errors import UsageError
from textassay.files import project_root, read_json
from textassay.models.classifier import build_classifier
from textassay.models.methods import attach
from textassay.models.quantization import dequantized, is_quantized
from textassay.models.source import find_model

bitsandbytes = pytest.importorskip("bitsandbytes")
HEADS = [(f, h) for f in FAMILIES for h in ("linear", "mlp", "label_scoring")
         if f in DECODERS or h != "label_scoring"]  # fmt: skip
PROMPT = Prompt("", " It was")


def linears(model: Any) -> dict[str, nn.Module]:
    """Every linear layer by its path, however its weights are kept; Linear4bit is an nn.Linear."""
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D)}


def in_4_bits(model: Any) -> set[str]:
    return {n for n, m in linears(model).items() if isinstance(m, bitsandbytes.nn.Linear4bit)}


def quantized(base: Path, head: str = "linear", **model: Any) -> Any:
    prompt = PROMPT if head == "label_scoring" else None
    return build(base, head=head, prompt=prompt, load_in_4bit=True, **model)


def lora(family: str, **method: Any) -> dict[str, Any]:
    return {"name": "lora", "target_modules": ATTENTION[family], **method}


@pytest.mark.parametrize(("family", "head"), HEADS)
def test_the_backbone_is_in_4_bits_and_head_and_fresh_modules_are_not(
    family: str, head: str, wide_base_of: Callable[[str], Path]
) -> None:
    plain = build(
        wide_base_of(family), head=head, prompt=PROMPT if head == "label_scoring" else None
    )
    built = quantized(wide_base_of(family), head)
    assert built.fresh == plain.fresh
    prefix = f"{built.model.base_model_prefix}."
    held = tuple(f"{name}." for name in plain.fresh)
    wanted = {n for n in linears(plain.model)
              if n.startswith(prefix) and not f"{n}.".startswith(held)}  # fmt: skip
    assert len(wanted) >= 8
    assert in_4_bits(built.model) == wanted
    rest = {p.dtype for n, p in built.model.named_parameters()
            if n.removesuffix(".weight") not in wanted}  # fmt: skip
    assert rest == {torch.float32}
    assert is_quantized(built.model)


@pytest.mark.parametrize("family", FAMILIES)
def test_4_bits_stand_for_the_weights_of_the_base(
    family: str, wide_base_of: Callable[[str], Path]
) -> None:
    plain, built = build(wide_base_of(family)).model, quantized(wide_base_of(family))
    names = in_4_bits(built.model)
    again = dequantized(built.model, plain)
    for name in names:
        wanted, found = plain.get_submodule(name), again.get_submodule(name)
        assert type(found) is type(wanted)
        error = (found.weight - wanted.weight).norm() / wanted.weight.norm()
        assert 0.01 < error < 0.15, name
    assert again.state_dict().keys() == plain.state_dict().keys()


def test_layers_whose_rows_are_no_whole_blocks_are_left_alone(
    wide_base_of: Callable[[str], Path], base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """bitsandbytes would read back other weights for them."""
    odd = resized(wide_base_of("llama"), tmp_path / "odd", intermediate_size=96)
    built = quantized(odd)
    assert len(in_4_bits(built.model)) == 12
    assert not any("down_proj" in name for name in in_4_bits(built.model))
    with pytest.raises(UsageError, match=r"no layer .* multiple of 64"):
        quantized(resized(base_of("bert"), tmp_path / "none", intermediate_size=96), "mlp")


@pytest.mark.parametrize("named", ["layers.1.mlp", "layers.1.self_attn.o_proj", "layers.0", "mlp"])
def test_modules_to_save_keep_their_precision_and_train(
    named: str, wide_base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    base = wide_base_of("llama")
    torch.manual_seed(0)
    source, section = find_model(str(base)), ModelSection(max_seq_length=LENGTH, load_in_4bit=True)
    built = build_classifier(source, LABELS, section, None, trained_whole=[named])
    kept = {n for n in linears(built.model) if f".{named}." in f"{n}."}
    assert kept
    assert in_4_bits(built.model).isdisjoint(kept)
    assert len(in_4_bits(built.model)) == 14 - len(kept)
    settings = {**lora("llama"), "modules_to_save": [named], "target_modules": ["q_proj"]}
    if named == "layers.0":
        settings["target_modules"] = ["layers.1.self_attn.q_proj"]
    model = tune(built, base, **settings)
    trained = {n.replace("modules_to_save.default.", "") for n, p in model.named_parameters()
               if p.requires_grad}  # fmt: skip
    trained |= {n.replace("modules_to_save.default", "weight") for n in trained}
    assert {f"base_model.model.{name}.weight" for name in kept} <= trained
    loaded = save(tmp_path, model, built.tokenizer)
    np.testing.assert_allclose(logits_of(loaded), logits_of(built, model), atol=1e-6)


@pytest.fixture
def tuned(wide_base_of: Callable[[str], Path]) -> tuple[Any, Any]:
    """A Llama in 4 bits with LoRA, as training begins: not shaken."""
    base = wide_base_of("llama")
    built = quantized(base)
    return built, attach(built, MethodSection.model_validate(lora("llama", r=4)), str(base))


def first_layer_after_an_evaluation(built: Any, model: Any) -> tuple[set[str], set[str]]:
    """Names of the first layer's LoRA tensors: all of them, and those that move at the steps after
    an evaluation in the middle of training."""
    pad = built.tokenizer.pad_token_id
    rows = ids_of(built.tokenizer, ["a good film", "dull", "the food was fine"])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)

    def steps() -> None:
        for _ in range(2):  # lora_A moves once lora_B has left 0
            model.train()
            logits = ask(model, rows, pad)
            nn.functional.cross_entropy(logits, torch.tensor([2, 0, 1])).backward()
            optimizer.step()
            optimizer.zero_grad()

    steps()
    logits_of(built, model)
    lora_tensors = {n: p for n, p in model.named_parameters() if ".layers.0." in n and "lora_" in n}
    before = {n: p.detach().clone() for n, p in lora_tensors.items()}
    optimizer.state.clear()  # without a gradient, momentum would still move a tensor
    steps()
    moved = {n for n, p in lora_tensors.items() if not torch.equal(p, before[n])}
    return set(lora_tensors), moved


def test_the_first_layer_still_learns_after_an_evaluation(tuned: tuple[Any, Any]) -> None:
    lora_tensors, moved = first_layer_after_an_evaluation(*tuned)
    assert len(lora_tensors) == 4
    assert moved == lora_tensors


def test_it_would_not_if_bitsandbytes_repacked_the_weights(tuned: tuple[Any, Any]) -> None:
    """The trap that quantization.py steps around. When this fails, bitsandbytes has mended it."""
    if not bitsandbytes.functional.has_avx512bf16():
        pytest.skip("this CPU has no avx512_bf16, for which bitsandbytes repacks weights")
    built, model = tuned
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            assert module.support_avx512bf16_for_cpu is False
            module.support_avx512bf16_for_cpu = True
    lora_tensors, moved = first_layer_after_an_evaluation(built, model)
    assert moved < lora_tensors


CASES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "bert-linear": ("bert", "linear", lora("bert"), {}),
    "roberta-mlp": ("roberta", "mlp", lora("roberta"), {}),
    "distilbert-bias": ("distilbert", "linear", lora("distilbert", bias="all"), {}),
    "gpt2-scoring": ("gpt2", "label_scoring", lora("gpt2"), {}),
    "qwen2-dora": ("qwen2", "linear", lora("qwen2", use_dora=True), {}),
    "llama-fp4": ("llama", "linear", lora("llama"), {"bnb_4bit_quant_type": "fp4"}),
    "llama-plain": ("llama", "mlp", lora("llama"), {"bnb_4bit_use_double_quant": False}),
    "llama-fp32": ("llama", "linear", lora("llama"), {"bnb_4bit_compute_dtype": "float32"}),
    "llama-scoring": ("llama", "label_scoring", lora("llama"), {}),
    "llama-bottleneck": ("llama", "mlp", {"name": "bottleneck"}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_on_4_bits_comes_back_with_the_same_logits(
    case: str, wide_base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    family, head, method, settings = CASES[case]
    built = quantized(wide_base_of(family), head, **settings)
    model = tune(built, wide_base_of(family), **method)
    loaded = save(tmp_path, model, built.tokenizer)
    built.prompt = loaded.prompt
    before = logits_of(built, model)
    assert np.ptp(before, axis=0).max() > 1e-3
    np.testing.assert_allclose(logits_of(loaded), before, atol=1e-6)
    assert in_4_bits(loaded.model) == in_4_bits(model) != set()
    stored = read_json(tmp_path / "config.json")
    assert "quantization_config" not in stored
    assert stored["textassay"]["quantization"] == {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": settings.get("bnb_4bit_quant_type", "nf4"),
        "bnb_4bit_use_double_quant": settings.get("bnb_4bit_use_double_quant", True),
        "bnb_4bit_compute_dtype": settings.get("bnb_4bit_compute_dtype", "bfloat16"),
        "llm_int8_skip_modules": stored["textassay"]["quantization"]["llm_int8_skip_modules"],
        "prepare_model_for_kbit_training": True,
    }


def test_the_settings_make_a_difference(wide_base_of: Callable[[str], Path]) -> None:
    """Else the test before would hold without their being stored."""
    different = [
        logits_of(quantized(wide_base_of("llama"), **settings))
        for settings in (
            {},
            {"bnb_4bit_quant_type": "fp4"},
            {"bnb_4bit_use_double_quant": False},
            {"bnb_4bit_compute_dtype": "float32"},
        )
    ]
    for index, one in enumerate(different):
        for other in different[index + 1 :]:
            assert np.abs(one - other).max() > 1e-5


@pytest.mark.slow
def test_it_comes_back_in_a_fresh_process(
    wide_base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    built = quantized(wide_base_of("llama"), "mlp")
    model = tune(built, wide_base_of("llama"), **lora("llama", use_dora=True))
    stamp_as_is(tmp_path, save(tmp_path, model, built.tokenizer))
    assert read_json(tmp_path / "hallmark.json")["probe"]["tolerance"] == TOLERANCE_QUANTIZED
    done = subprocess.run([python(), "-m", "textassay.artifacts.hallmark", str(tmp_path)],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    # The tolerance is for other machines: this one repeats itself.
    assert float(done.stdout.rpartition("within ")[2]) < 1e-5


@pytest.mark.parametrize("case", [case for case in CASES if "bottleneck" not in case])
def test_a_merged_model_is_the_adapter_on_the_dequantised_base(
    case: str, wide_base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    family, head, method, settings = CASES[case]
    built = quantized(wide_base_of(family), head, **settings)
    model = tune(built, wide_base_of(family), **method)
    loaded = save(tmp_path / "adapter", model, built.tokenizer)
    merged = merged_classifier(tmp_path / "adapter")
    assert not in_4_bits(merged)
    assert not is_quantized(merged)
    assert {p.dtype for p in merged.parameters()} == {torch.float32}
    opened = open_adapter(tmp_path / "adapter", None)
    apart = load_adapter(opened, built.tokenizer, dequantize=True)
    by_hand, found = logits_of(loaded, apart), logits_of(loaded, merged)
    np.testing.assert_allclose(found, by_hand, atol=1e-4, rtol=1e-5)
    assert np.abs(found - logits_of(loaded)).max() < TOLERANCE_QUANTIZED
    again = save(tmp_path / "merged", merged, built.tokenizer)
    assert again.kind == "model"
    assert read_json(tmp_path / "merged" / "config.json")["textassay"]["quantization"] is None
    np.testing.assert_allclose(logits_of(again), found, atol=1e-6)


def run_in_4_bits(folder: Path, launcher: str = "lora", **given: str) -> Run:
    settings = {"data.name": "sentiment5_en", "model.load_in_4bit": "true", **given}
    job, _ = resolve_job(None, None, {}, settings, launcher)
    return Run(job, 0, folder)


def test_the_optimizer_is_one_that_the_device_has(tmp_path: Path) -> None:
    from textassay.training.arguments import optimizer_in_4_bits, training_arguments

    cpu = torch.device("cpu")
    run = run_in_4_bits(tmp_path)
    assert training_arguments(run, cpu, "fp32").optim == "adamw_torch"
    assert optimizer_in_4_bits("cuda") == "paged_adamw_8bit"
    named = run_in_4_bits(tmp_path, **{"training.optim": "sgd"})
    assert training_arguments(named, cpu, "fp32").optim == "sgd"


def test_full_fine_tuning_in_4_bits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"load_in_4bit freezes the base.*not with full"):
        run_in_4_bits(tmp_path, launcher="full")


def test_a_missing_bitsandbytes_is_said_in_one_sentence(
    wide_base_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = quantized(wide_base_of("llama"))
    save(tmp_path, tune(built, wide_base_of("llama"), **lora("llama")), built.tokenizer)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    for call in (lambda: quantized(wide_base_of("llama")), lambda: load_artifact(tmp_path)):
        with pytest.raises(UsageError, match=r"needs bitsandbytes; run .*\[quantization\]") as got:
            call()
        assert "\n" not in str(got.value)
    assert "\nquantization = [" in (project_root() / "pyproject.toml").read_text()
    assert logits_of(build(wide_base_of("llama"))).shape == (5, 3), "nobody else needs it"


def test_the_probe_tells_a_lost_quantisation(
    wide_base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """An adapter on 4 bits is another classifier on the same base in fp32."""
    from textassay.files import write_json
    from textassay.models.source import SETTINGS_KEY

    built = quantized(wide_base_of("llama"))
    loaded = save(tmp_path, tune(built, wide_base_of("llama"), **lora("llama")), built.tokenizer)
    config = read_json(tmp_path / "config.json")
    config[SETTINGS_KEY]["quantization"] = None
    write_json(tmp_path / "config.json", config)
    lost = load_artifact(tmp_path)
    texts = ["a good film", "dull"]
    assert np.abs(probe_logits(lost, texts) - probe_logits(loaded, texts)).max() > 0.01
