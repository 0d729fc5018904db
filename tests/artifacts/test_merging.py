"""A merged model is the adapter and its base in one, for anybody who has transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.classifiers_for_tests import (
    ATTENTION,
    FAMILIES,
    ask,
    build,
    ids_of,
    logits_of,
    save,
    stamp_as_is,
    tune,
)
from tests.models_for_tests import TEXTS
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from textassay.artifacts.hallmark import FILE, read_hallmark, restamp, verify
from textassay.artifacts.kinds import load_artifact
from textassay.artifacts.merging import merged_classifier
from textassay.errors import GateError
from textassay.files import read_json, sha256_file

METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True, "r": 16},
    "both": {"use_dora": True, "use_rslora": True},
    "bias": {"bias": "all"},
    "bias of lora": {"bias": "lora_only", "use_rslora": True},
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: make(tmp_path_factory.mktemp(family)) for family, make in FAMILIES.items()}


def adapter(base: Path, family: str, folder: Path, method: dict[str, Any], **model: Any) -> Any:
    """A stamped adapter in `folder`, as it is read back."""
    built = build(base, **model)
    settings = {"name": "lora", "target_modules": ATTENTION[family], **method}
    loaded = save(folder, tune(built, base, **settings), built.tokenizer)
    stamp_as_is(folder, loaded)
    return loaded


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_model_gives_the_adapters_logits_in_plain_transformers(
    family: str, method: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    loaded = adapter(bases[family], family, tmp_path / "adapter", METHODS[method])
    before = logits_of(loaded)
    assert np.abs(before - logits_of(build(bases[family]))).max() > 0.01
    again = save(tmp_path / "merged", merged_classifier(tmp_path / "adapter"), loaded.tokenizer)
    np.testing.assert_allclose(logits_of(again), before, atol=1e-4)
    plain, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "merged", output_loading_info=True
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    with torch.inference_mode():
        rows = ids_of(tokenizer, TEXTS)
        theirs = torch.cat([ask(plain.eval(), [row], tokenizer.pad_token_id) for row in rows])
    np.testing.assert_allclose(theirs, before, atol=1e-4)
    assert plain.config.id2label == {0: "bad", 1: "fine", 2: "good"}
    assert not (tmp_path / "merged" / "adapter_config.json").exists()


def test_a_merged_model_needs_its_base_no_more_and_says_what_it_comes_from(
    tmp_path: Path,
) -> None:
    base = FAMILIES["bert"](tmp_path / "base")
    loaded = adapter(base, "bert", tmp_path / "adapter", METHODS["dora"], head="mlp")
    again = save(tmp_path / "merged", merged_classifier(tmp_path / "adapter"), loaded.tokenizer)
    stamped = restamp(tmp_path / "merged", tmp_path / "adapter", again)
    parent = read_hallmark(tmp_path / "adapter")
    assert parent is not None
    assert parent["made_from"] is None
    assert stamped["made_from"] == sha256_file(tmp_path / "adapter" / FILE)
    assert stamped["kind"] == "model"
    for same in ("base", "labels", "data", "made_by", "validation"):
        assert stamped[same] == parent[same]
    assert stamped["probe"]["texts"] == parent["probe"]["texts"]
    np.testing.assert_allclose(stamped["probe"]["logits"], parent["probe"]["logits"], atol=1e-4)
    for path in (base, tmp_path / "adapter"):
        path.rename(path.with_name(f"{path.name} is gone"))
    assert "5 probe rows" in verify(tmp_path / "merged")


def test_the_adapter_is_left_as_it_was(bases: dict[str, Path], tmp_path: Path) -> None:
    adapter(bases["gpt2"], "gpt2", tmp_path, METHODS["both"])
    merged_classifier(tmp_path)
    assert "5 probe rows" in verify(tmp_path)


def test_the_base_of_an_adapter_may_lie_elsewhere(tmp_path: Path) -> None:
    base = FAMILIES["bert"](tmp_path / "base")
    loaded = adapter(base, "bert", tmp_path / "adapter", METHODS["lora"])
    moved = base.rename(tmp_path / "moved")
    merged = merged_classifier(tmp_path / "adapter", base=str(moved))
    np.testing.assert_allclose(logits_of(loaded, merged), logits_of(loaded), atol=1e-4)


def test_nothing_is_stamped_after_an_adapter_without_a_hallmark(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    loaded = adapter(bases["bert"], "bert", tmp_path / "adapter", METHODS["lora"])
    again = save(tmp_path / "merged", merged_classifier(tmp_path / "adapter"), loaded.tokenizer)
    (tmp_path / "adapter" / FILE).unlink()
    with pytest.raises(GateError, match="carries no hallmark, so nothing made from it"):
        restamp(tmp_path / "merged", tmp_path / "adapter", again)
    assert not (tmp_path / "merged" / FILE).exists()


def test_settings_of_the_input_stay_with_the_merged_model(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    loaded = adapter(bases["llama"], "llama", tmp_path / "adapter", METHODS["lora"], head="mlp")
    save(tmp_path / "merged", merged_classifier(tmp_path / "adapter"), loaded.tokenizer)
    configs = [read_json(tmp_path / name / "config.json") for name in ("adapter", "merged")]
    assert configs[0]["textassay"] == configs[1]["textassay"]
    assert configs[1]["architectures"] == ["LlamaForSequenceClassification"]
    assert load_artifact(tmp_path / "merged").max_length == loaded.max_length
