"""Heads of every family: their layout, what is fresh about them, and that they survive."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.classifiers_for_tests import (
    ATTENTION,
    DECODERS,
    FAMILIES,
    LABELS,
    build,
    logits_of,
    save,
    tune,
)
from torch import nn
from transformers import AutoModelForSequenceClassification, ViTConfig

from textassay.artifacts.merging import merged_classifier
from textassay.data.labels import LabelMap
from textassay.data.prompt import Prompt
from textassay.errors import UsageError
from textassay.files import read_json, write_json
from textassay.models import classifier
from textassay.models.classifier import fresh_modules, skeleton
from textassay.models.heads import MlpHead, classifier_class
from textassay.models.source import checkpoint_shapes

HEADS = ("linear", "mlp")
# The head, and what a base of the family lacks beside it.
FRESH = {
    "bert": ["classifier", "bert.pooler.dense"],
    "roberta": ["classifier"],
    "distilbert": ["pre_classifier", "classifier"],
    "gpt2": ["score"],
    "llama": ["score"],
    "qwen2": ["score"],
}


def mlp_of(model: Any) -> MlpHead:
    (head,) = [module for module in model.modules() if isinstance(module, MlpHead)]
    return head


@pytest.mark.parametrize("family", FAMILIES)
def test_an_mlp_head_has_the_layout_and_the_values_that_it_promises(
    family: str, base_of: Callable[[str], Path]
) -> None:
    head = mlp_of(build(base_of(family), head="mlp").model)
    kinds = [nn.Linear, nn.ReLU, nn.Dropout] * 2 + [nn.Linear]
    assert [type(layer) for layer in head] == kinds
    linears = [layer for layer in head if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linears] == [
        (32, 512), (512, 256), (256, len(LABELS)),
    ]  # fmt: skip
    assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.1, 0.1]
    for layer in linears:
        bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
        largest = layer.weight.abs().max().item()
        assert 0.97 * bound < largest <= bound
        # Uniform between the bounds: the deviation is bound / sqrt(3).
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert not layer.bias.any()


def test_an_mlp_head_bends_and_drops(base_of: Callable[[str], Path]) -> None:
    head = mlp_of(build(base_of("bert"), head="mlp").model)
    x = torch.randn(64, 32)
    first, second, last = (layer for layer in head if isinstance(layer, nn.Linear))
    by_hand = last(second(first(x).clamp(min=0)).clamp(min=0))
    torch.testing.assert_close(head.eval()(x), by_hand)
    head.train()
    assert not torch.equal(head(x), head(x))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_class_bears_the_librarys_name(
    family: str, head: str, base_of: Callable[[str], Path]
) -> None:
    built = build(base_of(family), head=head)
    wanted = AutoModelForSequenceClassification.from_config(built.model.config)
    assert type(built.model).__name__ == type(wanted).__name__
    assert isinstance(built.model, type(wanted))
    assert (mlp_of(built.model) is not None) if head == "mlp" else type(built.model) is type(wanted)


def test_equal_seeds_give_equal_mlp_heads(base_of: Callable[[str], Path]) -> None:
    one, other = (build(base_of("llama"), head="mlp").model.state_dict() for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_fresh_is_trained_and_saved_beside_an_adapter(
    family: str, head: str, base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    built = build(base_of(family), head=head)
    assert built.fresh == FRESH[family]
    model = tune(built, base_of(family), name="lora", target_modules=ATTENTION[family])
    trained = {n for n, p in model.named_parameters() if p.requires_grad and "lora_" not in n}
    plain = build(base_of(family), head=head).model
    wanted = {n for n, _ in plain.named_parameters()
              if any(n.startswith(f"{module}.") for module in FRESH[family])}  # fmt: skip
    assert wanted
    assert {n.removeprefix("base_model.model.").replace("modules_to_save.default.", "")
            for n in trained} == wanted  # fmt: skip
    save(tmp_path, model, built.tokenizer)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert {n.removeprefix("base_model.model.") for n in saved if "lora_" not in n} == wanted
    values = {n.replace("modules_to_save.default.", ""): p for n, p in model.named_parameters()}
    for name in wanted:
        key = f"base_model.model.{name}"
        torch.testing.assert_close(saved[key], values[key].detach())


def reported(base: Path, monkeypatch: pytest.MonkeyPatch, **model: Any) -> tuple[list[str], Any]:
    """What the loader itself says is missing or mismatched, and the config that it loaded by."""
    kept: dict[str, Any] = {}
    load = classifier.load_weights

    def spy(folder: str, config: Any, tokenizer: Any) -> Any:
        kept["model"], kept["info"] = load(folder, config, tokenizer)
        kept["config"] = config
        return kept["model"], kept["info"]

    monkeypatch.setattr(classifier, "load_weights", spy)
    fresh = build(base, **model).fresh
    monkeypatch.undo()
    info = kept["info"]
    open_keys = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    assert all(any(k.startswith(f"{m}.") for m in fresh) for k in open_keys), open_keys
    return fresh, kept["config"]


def agree(base: Path, monkeypatch: pytest.MonkeyPatch, **model: Any) -> list[str]:
    """The fresh modules by the loader and by keys alone, which have to be the same."""
    fresh, config = reported(base, monkeypatch, **model)
    plain = skeleton(config)
    assert all(tensor.is_meta for tensor in plain.state_dict().values())
    assert fresh_modules(plain, checkpoint_shapes(base), str(base)) == fresh
    return fresh


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_keys_alone_tell_what_the_loader_tells(
    family: str, head: str, base_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert agree(base_of(family), monkeypatch, head=head) == FRESH[family]


@pytest.mark.parametrize("family", DECODERS)
def test_keys_alone_tell_that_nothing_is_fresh_in_label_scoring(
    family: str, base_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = Prompt("", " It was")
    assert agree(base_of(family), monkeypatch, head="label_scoring", prompt=prompt) == []


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("labels", [2, 3, 5])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifier_of_another_label_count_is_a_base_too(
    family: str, labels: int, head: str, base_of: Callable[[str], Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its head does not fit, or fits and is still the head that is trained."""
    other = LabelMap(tuple(f"label {index}" for index in range(labels)))
    first = build(base_of(family), other)
    save(tmp_path, first.model, first.tokenizer, other)
    fresh = agree(tmp_path, monkeypatch, head=head)
    head_alone = [module for module in FRESH[family] if "pooler" not in module]
    assert fresh == head_alone
    built = build(tmp_path, head=head)
    assert built.model.num_labels == len(LABELS)
    assert logits_of(built).shape == (5, len(LABELS))


def test_a_checkpoint_with_a_pooler_and_one_without(
    base_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(base_of("bert"))
    first.model.save_pretrained(tmp_path)
    first.tokenizer.save_pretrained(tmp_path)
    assert agree(tmp_path, monkeypatch) == ["classifier"]
    path = tmp_path / "model.safetensors"
    kept = {key: tensor for key, tensor in load_file(path).items() if "pooler" not in key}
    assert len(kept) == len(load_file(path)) - 2
    save_file(kept, path, {"format": "pt"})
    assert agree(tmp_path, monkeypatch) == ["classifier", "bert.pooler.dense"]


def test_a_part_of_the_backbone_in_another_shape_is_fresh(
    base_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(base_of("bert"), tmp_path, dirs_exist_ok=True)
    config = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", {**config, "type_vocab_size": 3})
    assert agree(tmp_path, monkeypatch) == [
        "classifier", "bert.embeddings.token_type_embeddings", "bert.pooler.dense",
    ]  # fmt: skip


@pytest.mark.parametrize("prefixed", [True, False])
@pytest.mark.parametrize("pickled", [True, False])
def test_old_spellings_of_keys_are_understood(
    prefixed: bool, pickled: bool, base_of: Callable[[str], Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """LayerNorm.gamma and beta of the first BERTs; a backbone without its prefix; a pickle."""
    first = build(base_of("bert"))
    first.model.save_pretrained(tmp_path)
    first.tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = {}
    for key, tensor in load_file(path).items():
        key = key.replace("LayerNorm.weight", "LayerNorm.gamma")
        key = key.replace("LayerNorm.bias", "LayerNorm.beta")
        if not prefixed:
            if not key.startswith("bert."):
                continue
            key = key.removeprefix("bert.")
        state[key] = tensor
    assert sum(key.endswith(("gamma", "beta")) for key in state) == 10
    if pickled:
        path.unlink()
        torch.save(state, tmp_path / "pytorch_model.bin")
    else:
        save_file(state, path, {"format": "pt"})
    assert agree(tmp_path, monkeypatch) == ["classifier"]
    again = build(tmp_path).model
    for key, tensor in first.model.bert.state_dict().items():
        assert torch.equal(again.bert.state_dict()[key], tensor), key


def test_shapes_come_from_all_files_of_a_checkpoint(
    base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    shapes = checkpoint_shapes(base_of("llama"))
    assert shapes["model.layers.1.mlp.down_proj.weight"] == (32, 64)
    state = load_file(base_of("llama") / "model.safetensors")
    assert shapes == {key: tuple(tensor.shape) for key, tensor in state.items()}
    half = len(state) // 2
    for part, keys in enumerate((list(state)[:half], list(state)[half:])):
        save_file({key: state[key] for key in keys}, tmp_path / f"model-{part}.safetensors")
    assert checkpoint_shapes(tmp_path) == shapes


def tuned(family: str, head: str, method: str, base: Path) -> tuple[Any, Any]:
    built = build(base, head=head, load_in_4bit=method == "qlora")
    if method == "full":
        return built, tune(built, base, scale=0.02, name="full")
    return built, tune(built, base, name="lora", target_modules=ATTENTION[family])


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_survives_saving_loading_and_merging(
    family: str, head: str, method: str, wide_base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    built, model = tuned(family, head, method, wide_base_of(family))
    before = logits_of(built, model)
    loaded = save(tmp_path / "saved", model, built.tokenizer)
    np.testing.assert_allclose(logits_of(loaded), before, atol=1e-6)
    if method == "full":
        return
    merged = merged_classifier(tmp_path / "saved")
    again = save(tmp_path / "merged", merged, built.tokenizer)
    # A base in 4 bits multiplies in bf16, its merged model in fp32.
    allowed = 1e-5 if method == "lora" else 0.02
    np.testing.assert_allclose(logits_of(again), before, atol=allowed)
    assert np.abs(before - before.mean(0)).max() > 1e-3
    for name in built.fresh:
        found, wanted = again.model.get_submodule(name), model.base_model.model.get_submodule(name)
        for one, other in zip(found.parameters(), wanted.modules_to_save.parameters(), strict=True):
            assert torch.equal(one, other)


def test_an_architecture_that_has_no_such_class_is_refused(
    base_of: Callable[[str], Path],
) -> None:
    with pytest.raises(UsageError, match="no language model for distilbert"):
        build(base_of("distilbert"), head="label_scoring", prompt=Prompt("", " It was"))
    with pytest.raises(UsageError, match="no text classifier for vit"):
        classifier_class(ViTConfig(), {"head": "linear"})


def test_layers_of_an_mlp_that_do_not_fit_start_as_new_ones(
    base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """A classifier of three labels as the base of one with two: only its last layer is new."""
    built = build(base_of("bert"), head="mlp")
    save(tmp_path, built.model, built.tokenizer)
    other = build(tmp_path, LabelMap(("no", "yes")), head="mlp")
    old, new = mlp_of(built.model), mlp_of(other.model)
    assert torch.equal(new[0].weight, old[0].weight)
    assert torch.equal(new[3].weight, old[3].weight)
    bound = (6 / (256 + 2)) ** 0.5
    assert 0.9 * bound < new[6].weight.abs().max().item() <= bound
