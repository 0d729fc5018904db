"""PEFT's methods by PEFT's names: what trains, with which ranks, and that it all comes back."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer
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
    shake,
    tune,
)
from tests.models_for_tests import TEXTS
from torch import nn

from textassay.artifacts.merging import merged_classifier
from textassay.config.load import resolve_job
from textassay.config.schema import MethodSection, ModelSection
from textassay.data.prompt import Prompt
from textassay.errors import UsageError
from textassay.files import read_json
from textassay.models.classifier import build_classifier
from textassay.models.methods import attach, merge, refuse_unmergeable
from textassay.models.source import find_model

WIDTH = 32

# Family, settings, what the names of the method's own tensors have in common, and how many
# elements it trains beside the fresh modules.
ATTENTION_BOTH = {"target_modules": ["query", "value"]}
METHODS: dict[str, tuple[str, dict[str, Any], str, int]] = {
    "lora": ("bert", {"name": "lora", "r": 4, **ATTENTION_BOTH}, "lora_", 4 * 2 * 4 * WIDTH),
    "dora": (
        "bert", {"name": "lora", "r": 4, "use_dora": True, **ATTENTION_BOTH}, "lora_",
        4 * (2 * 4 * WIDTH + WIDTH),
    ),
    "bias": (
        "llama", {"name": "lora", "r": 4, "lora_bias": True, "target_modules": ["q_proj"]},
        "lora_", 2 * (2 * 4 * WIDTH + WIDTH),
    ),
    "lora-bias-all": (
        "gpt2", {"name": "lora", "r": 4, "target_modules": ["c_attn"], "bias": "lora_only"},
        "lora_", 2 * (4 * (WIDTH + 3 * WIDTH) + 3 * WIDTH),
    ),
    "ia3": (
        "bert",
        {"name": "ia3", "target_modules": ["value", "intermediate.dense"],
         "feedforward_modules": ["intermediate.dense"]},
        "ia3_", 2 * (WIDTH + WIDTH),
    ),
    "ia3-decoder": (
        "llama",
        {"name": "ia3", "target_modules": ["k_proj", "v_proj", "down_proj"],
         "feedforward_modules": ["down_proj"]},
        "ia3_", 2 * (WIDTH + WIDTH + 2 * WIDTH),
    ),
    "vera": ("bert", {"name": "vera", "r": 8, **ATTENTION_BOTH}, "vera_", 4 * (8 + WIDTH)),
    "oft": (
        "bert", {"name": "oft", "oft_block_size": 4, **ATTENTION_BOTH}, "oft_", 4 * 8 * 6,
    ),
    "oft-decoder": (
        "qwen2", {"name": "oft", "oft_block_size": 4, "target_modules": ["q_proj"]}, "oft_",
        2 * 8 * 6,
    ),
    "ln_tuning": (
        "bert", {"name": "ln_tuning", "target_modules": ["LayerNorm"]}, "ln_tuning_layers",
        5 * 2 * WIDTH,
    ),
    "prompt_tuning": (
        "bert", {"name": "prompt_tuning", "num_virtual_tokens": 8}, "prompt_encoder", 8 * WIDTH,
    ),
    "prefix_tuning": (
        "bert", {"name": "prefix_tuning", "num_virtual_tokens": 8}, "prompt_encoder",
        8 * 2 * 2 * WIDTH,
    ),
    "p_tuning": (
        "roberta", {"name": "p_tuning", "num_virtual_tokens": 4, "encoder_hidden_size": 16},
        "prompt_encoder",
        4 * WIDTH + (WIDTH * 16 + 16) + (16 * 16 + 16) + (16 * WIDTH + WIDTH),
    ),
}  # fmt: skip
VIRTUAL = {"prompt_tuning", "prefix_tuning", "p_tuning"}


def elements(model: Any, names: list[str]) -> int:
    return sum(p.numel() for name in names for p in model.get_submodule(name).parameters())


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_trains_is_its_own_and_the_fresh_modules(
    name: str, base_of: Callable[[str], Path]
) -> None:
    family, settings, part, count = METHODS[name]
    plain = build(base_of(family))
    built = build(base_of(family))
    model = attach(built, MethodSection.model_validate(settings), "a-base")
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    fresh = {n for n in trained if "modules_to_save" in n}
    assert elements(plain.model, built.fresh) == sum(trained[n].numel() for n in fresh) > 0
    own = set(trained) - fresh
    if name == "lora-bias-all":
        own -= {n for n in own if n.endswith("c_attn.base_layer.bias")}
    assert own
    assert all(part in n for n in own), own
    assert sum(trained[n].numel() for n in set(trained) - fresh) == count
    assert model.peft_config["default"].base_model_name_or_path == "a-base"


@pytest.mark.parametrize("name", METHODS)
def test_a_tuned_classifier_comes_back_with_the_same_logits(
    name: str, base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    family, settings, _, _ = METHODS[name]
    built = build(base_of(family))
    nothing = logits_of(built)
    model = tune(built, base_of(family), **settings)
    before = logits_of(built, model)
    assert np.abs(before - nothing).max() > 1e-3
    loaded = save(tmp_path / "saved", model, built.tokenizer)
    assert loaded.kind == "adapter"
    np.testing.assert_allclose(logits_of(loaded), before, atol=1e-6)
    assert {path.name for path in (tmp_path / "saved").iterdir()} >= {
        "adapter_model.safetensors", "adapter_config.json", "config.json", "label_mapping.json",
    }  # fmt: skip
    listed = read_json(tmp_path / "saved" / "adapter_config.json").get("modules_to_save")
    if name not in VIRTUAL:
        assert len(listed) == len(set(listed))
        assert set(built.fresh) <= set(listed)
    if name in VIRTUAL:
        with pytest.raises(UsageError, match=r"save_merged: .*adds tokens, not weights.*leave"):
            refuse_unmergeable(model)
        with pytest.raises(UsageError, match="cannot be merged into the weights"):
            merge(model)
        return
    if name == "bias":  # Llama's layers have none to add it to
        with pytest.raises(UsageError, match=r"save_merged: .*lora_bias adds a bias to layers"):
            refuse_unmergeable(model)
        with pytest.raises(UsageError, match=r"lora: .*cannot be merged .*no bias.*ship the adapt"):
            merged_classifier(tmp_path / "saved")
        return
    refuse_unmergeable(model)
    merged = merged_classifier(tmp_path / "saved")
    np.testing.assert_allclose(logits_of(loaded, merged), before, atol=1e-4)
    assert not hasattr(merged, "peft_config")
    plain = build(base_of(family)).model
    assert merged.state_dict().keys() == plain.state_dict().keys()


COMPOSITE = {  # heads of several layers, which PEFT's own merging takes for one
    "roberta": ("linear", {"target_modules": ["query", "value"]}),
    "bert": ("mlp", {"target_modules": ["query", "value"]}),
    "llama": ("mlp", {"target_modules": ["q_proj", "v_proj"]}),
}


@pytest.mark.parametrize("family", COMPOSITE)
@pytest.mark.parametrize("name", ["lora", "ia3", "vera", "oft", "loha"])
def test_a_head_of_several_layers_survives_the_merge(
    name: str, family: str, base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    head, targets = COMPOSITE[family]
    extra = {"ia3": {"feedforward_modules": []}, "oft": {"oft_block_size": 4}, "vera": {"r": 8}}
    built = build(base_of(family), head=head)
    model = tune(built, base_of(family), name=name, **targets, **extra.get(name, {}))
    refuse_unmergeable(model)
    before = logits_of(built, model)
    save(tmp_path / "adapter", model, built.tokenizer)
    merged = merged_classifier(tmp_path / "adapter")
    again = save(tmp_path / "merged", merged, built.tokenizer)
    np.testing.assert_allclose(logits_of(again), before, atol=1e-4)


def test_an_adapter_says_which_revision_of_its_base_it_is_for(
    base_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub cache laid out by hand, which holds one revision and no main branch."""
    cached = tmp_path / "hub" / "models--org--base"
    shutil.copytree(base_of("bert"), cached / "snapshots" / "abc123")
    (cached / "refs").mkdir()
    (cached / "refs" / "v2").write_text("abc123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    source = find_model("org/base", "v2")
    assert (source.name, source.revision) == ("org/base", "v2")
    built = build_classifier(source, LABELS, ModelSection(max_seq_length=LENGTH), None)
    method = MethodSection(name="lora", target_modules=["query"])
    model = shake(attach(built, method, source.name, source.revision)).eval()
    before = logits_of(built, model)
    loaded = save(tmp_path / "saved", model, built.tokenizer)
    assert loaded.base.revision == "v2"
    np.testing.assert_allclose(logits_of(loaded), before, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize("use_dora", [False, True])
def test_lora_has_the_ranks_and_scalings_that_were_asked_for(
    use_dora: bool, use_rslora: bool, family: str, base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    one = ATTENTION[family][0]
    built = build(base_of(family))
    model = tune(
        built, base_of(family), name="lora", target_modules=ATTENTION[family], r=8, lora_alpha=24,
        rank_pattern={one: 4}, alpha_pattern={one: 10}, use_dora=use_dora, use_rslora=use_rslora,
    )  # fmt: skip
    found = {n: m for n, m in model.named_modules() if isinstance(m, LoraLayer)}
    assert len(found) == 2 * len(ATTENTION[family])
    for name, layer in found.items():
        r, alpha = (4, 10) if name.endswith(f".{one}") else (8, 24)
        assert layer.r["default"] == r
        assert layer.scaling["default"] == pytest.approx(alpha / (r**0.5 if use_rslora else r))
        assert layer.lora_A["default"].weight.shape[0] == r
        assert layer.lora_B["default"].weight.shape[1] == r
        assert ("default" in layer.lora_magnitude_vector) == use_dora
        weight = layer.get_base_layer().weight
        wide = max(weight.shape) if family == "gpt2" else weight.shape[0]
        if use_dora:
            assert layer.lora_magnitude_vector["default"].weight.shape == (wide,)
    loaded = save(tmp_path, model, built.tokenizer)
    before = logits_of(built, model)
    np.testing.assert_allclose(logits_of(loaded), before, atol=1e-6)
    merged = merged_classifier(tmp_path)
    np.testing.assert_allclose(logits_of(loaded, merged), before, atol=1e-4)


def test_dora_and_rslora_change_what_is_computed(base_of: Callable[[str], Path]) -> None:
    different = []
    for dora, rslora in itertools.product((False, True), repeat=2):
        built = build(base_of("bert"))
        method = {"r": 4, "target_modules": ["query"], "use_dora": dora, "use_rslora": rslora}
        different.append(logits_of(built, tune(built, base_of("bert"), name="lora", **method)))
    for index, one in enumerate(different):
        assert all(np.abs(one - other).max() > 1e-6 for other in different[index + 1 :])


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("name", sorted(VIRTUAL))
@pytest.mark.parametrize("head", ["linear", "label_scoring"])
def test_virtual_tokens_before_a_decoder_are_refused(
    head: str, name: str, family: str, base_of: Callable[[str], Path]
) -> None:
    built = build(base_of(family), head=head, prompt=Prompt("", " It was"))
    with pytest.raises(UsageError, match=rf"method\.name: {name} hides the tokens from a decoder"):
        tune(built, base_of(family), name=name, num_virtual_tokens=4)


@pytest.mark.parametrize("name", sorted(VIRTUAL))
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_virtual_tokens_work_with_encoders(
    family: str, name: str, base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """RoBERTa counts positions from its padding, with and without virtual tokens."""
    built = build(base_of(family))
    model = tune(built, base_of(family), name=name, num_virtual_tokens=4)
    before = logits_of(built, model)
    np.testing.assert_allclose(logits_of(save(tmp_path, model, built.tokenizer)), before, atol=1e-6)
    pad = built.tokenizer.pad_token_id
    rows = ids_of(built.tokenizer, TEXTS)
    with torch.inference_mode():
        alone = torch.cat([ask(model, [row], pad) for row in rows])
        together = ask(model, rows, pad, extra=3)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(alone, before, atol=1e-5)


def test_what_peft_has_to_be_told_for_virtual_tokens_is_said(
    base_of: Callable[[str], Path],
) -> None:
    built = build(base_of("distilbert"))
    with pytest.raises(UsageError, match=r"method: prompt_tuning .*specify `token_dim`"):
        tune(built, base_of("distilbert"), name="prompt_tuning", num_virtual_tokens=4)


def method_of(**given: str) -> MethodSection:
    settings = {"data.name": "sentiment5_en", **{f"method.{k}": v for k, v in given.items()}}
    return resolve_job(None, None, {}, settings, "lora")[0].method


def adapted(base: Path, method: MethodSection) -> set[str]:
    """The layers that the method's adapters sit on, without the model's prefix."""
    model = attach(build(base), method, "a-base")
    return {n.removeprefix("base_model.model.") for n, m in model.named_modules()
            if isinstance(m, LoraLayer)}  # fmt: skip


LAYER = "bert.encoder.layer.{}.attention.self.{}"


@pytest.mark.parametrize(
    ("given", "setting", "layers"),
    [
        ("query", ["query"], [LAYER.format(i, "query") for i in (0, 1)]),
        ("query,value", ["query", "value"],
         [LAYER.format(i, n) for i in (0, 1) for n in ("query", "value")]),
        (" query , key ", ["query", "key"],
         [LAYER.format(i, n) for i in (0, 1) for n in ("query", "key")]),
        ("self.query", ["self.query"], [LAYER.format(i, "query") for i in (0, 1)]),
        (".*attention.*query", ".*attention.*query", [LAYER.format(i, "query") for i in (0, 1)]),
        (r".*layer\.1\..*(query|key)", r".*layer\.1\..*(query|key)",
         [LAYER.format(1, n) for n in ("query", "key")]),
    ],
)  # fmt: skip
def test_target_modules_from_a_flag_are_names_or_a_pattern(
    given: str, setting: Any, layers: list[str], base_of: Callable[[str], Path]
) -> None:
    method = method_of(target_modules=given)
    assert method.settings()["target_modules"] == setting
    assert adapted(base_of("bert"), method) == set(layers)


def test_all_linear_is_every_linear_layer_but_the_head(base_of: Callable[[str], Path]) -> None:
    method = method_of(target_modules="all-linear")
    assert method.settings()["target_modules"] == "all-linear"
    plain = build(base_of("bert"))
    linear = {n for n, m in plain.model.bert.encoder.named_modules() if isinstance(m, nn.Linear)}
    assert adapted(base_of("bert"), method) == {f"bert.encoder.{name}" for name in linear}


def test_other_lists_of_modules_come_from_flags_as_well(base_of: Callable[[str], Path]) -> None:
    """A single name that stayed a text would be a pattern, which matches nothing and is silent."""
    excluded = method_of(target_modules="all-linear", exclude_modules="dense")
    assert excluded.settings()["exclude_modules"] == ["dense"]
    assert not any("dense" in name for name in adapted(base_of("bert"), excluded))
    ia3 = method_of(name="ia3", target_modules="value,output.dense",
                    feedforward_modules="output.dense")  # fmt: skip
    model = attach(build(base_of("bert")), ia3, "a-base")
    shapes = {n.split(".ia3_l")[0].rpartition("layer.0.")[2]: tuple(p.shape)
              for n, p in model.named_parameters() if "ia3_l" in n and "layer.0" in n}  # fmt: skip
    # Feed-forward layers are scaled at their input, 64 wide in the second one, others behind.
    assert shapes["output.dense"] == (1, 64)
    assert shapes["attention.self.value"] == (32, 1)
    whole = method_of(target_modules="query", modules_to_save="pooler")
    assert whole.settings()["modules_to_save"] == ["pooler"]


@pytest.mark.parametrize(
    "named", [[], ["pooler"], ["bert.pooler.dense"], ["classifier"], ["classifier", "pooler"]]
)
def test_modules_to_save_are_listed_once_each(
    named: list[str], base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    built = build(base_of("bert"))
    settings = {"modules_to_save": named} if named else {}
    model = tune(built, base_of("bert"), name="lora", target_modules=["query"], **settings)
    loaded = save(tmp_path, model, built.tokenizer)
    listed = read_json(tmp_path / "adapter_config.json")["modules_to_save"]
    assert len(listed) == len(set(listed))
    trained = {n for n, p in model.named_parameters() if p.requires_grad and "lora_" not in n}
    assert sum("classifier" in name for name in trained) == 2
    assert sum("pooler" in name for name in trained) == 2
    np.testing.assert_allclose(logits_of(loaded), logits_of(built, model), atol=1e-6)


def test_what_peft_refuses_is_one_sentence(base_of: Callable[[str], Path]) -> None:
    built = build(base_of("bert"))
    with pytest.raises(UsageError, match=r"q_proj.*linear modules end in .*query"):
        tune(built, base_of("bert"), name="lora", target_modules=["q_proj"])
    with pytest.raises(UsageError, match="'lorra' is not a method; did you mean lora"):
        method_of(name="lorra")
    with pytest.raises(UsageError, match=r"use_dorra is not a setting .* did you mean use_dora"):
        method_of(use_dorra="true")


@pytest.mark.parametrize("name", sorted(VIRTUAL))
def test_positions_for_virtual_tokens_have_to_be_there(
    name: str, base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """Texts of the full length and the virtual tokens may be more than the positions."""
    base = resized(base_of("bert"), tmp_path, max_position_embeddings=LENGTH + 4)
    built = build(base)
    model = tune(built, base, name=name, num_virtual_tokens=4)
    ids = torch.full((1, LENGTH), 7)
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert logits.isfinite().all()
    with pytest.raises(UsageError, match=r"max_seq_length: 53 is more than the 52 positions"):
        tune(build(base), base, name=name, num_virtual_tokens=5)
