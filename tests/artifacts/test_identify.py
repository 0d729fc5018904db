"""What a directory is, by the names of its files and their JSON alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from textassay.artifacts.identify import identify
from textassay.errors import UsageError

Files = dict[str, Any]
CLASSIFIER = {"architectures": ["BertForSequenceClassification"]}
BASE = {"architectures": ["BertForMaskedLM"]}
RANK = "global_step5/zero_pp_rank_0_mp_rank_00_optim_states.pt"

KINDS: list[tuple[str, Files, str]] = [
    ("model", {"config.json": CLASSIFIER, "model.safetensors": ""}, "model"),
    ("model of shards",
     {"config.json": CLASSIFIER, "model-00001-of-00002.safetensors": ""}, "model"),
    ("model whose shards are lost",
     {"config.json": CLASSIFIER, "model.safetensors.index.json": {}}, "model"),
    ("model as a pickle", {"config.json": CLASSIFIER, "pytorch_model.bin": ""}, "model"),
    ("language model that scores labels",
     {"config.json": {"architectures": ["LlamaForCausalLM"], "textassay": {}},
      "model.safetensors": ""}, "model"),
    ("model with a broken config", {"config.json": "{", "model.safetensors": ""}, "model"),
    ("base model", {"config.json": BASE, "model.safetensors": ""}, "base model"),
    ("base model that does not say what", {"config.json": {}, "model.safetensors": ""},
     "base model"),
    ("adapter", {"adapter_config.json": {}, "adapter_model.safetensors": ""}, "adapter"),
    ("adapter with a config",
     {"adapter_config.json": {}, "adapter_model.safetensors": "", "config.json": CLASSIFIER},
     "adapter"),
    ("adapter in a model", {"adapter_config.json": {}, "config.json": CLASSIFIER,
                            "model.safetensors": ""}, "adapter"),
    ("adapter without weights", {"adapter_config.json": {}}, "adapter"),
    ("onnx", {"model.onnx": "", "config.json": CLASSIFIER}, "onnx"),
    ("quantised onnx", {"model_quantized.onnx": ""}, "onnx-int8"),
    ("run", {"config.yaml": "fingerprint: sha256:0\n", "model/config.json": CLASSIFIER}, "run"),
    ("job", {"config.yaml": "data: {}\n"}, "unknown"),
    ("config alone", {"config.json": CLASSIFIER}, "unknown"),
    ("nothing", {}, "unknown"),
    ("step", {RANK: "", "latest": "global_step5"}, "ZeRO checkpoint"),
    ("Trainer's", {RANK: "", "config.json": CLASSIFIER, "model.safetensors": ""},
     "ZeRO checkpoint"),
    ("Trainer's with an adapter",
     {RANK: "", "adapter_config.json": {}, "adapter_model.safetensors": ""}, "ZeRO checkpoint"),
    ("checkpoint that lost its ranks", {"latest": "global_step5"}, "ZeRO checkpoint"),
    ("stage 0, which cuts nothing",
     {"global_step5/mp_rank_00_model_states.pt": "", "latest": "global_step5",
      "config.json": CLASSIFIER, "model.safetensors": ""}, "model"),
    ("parent", {f"checkpoint-5/{RANK}": "", "checkpoint-5/latest": "global_step5",
                "adapter_config.json": {}}, "ZeRO checkpoint"),
    ("finished model above its checkpoints",
     {f"checkpoint-5/{RANK}": "", "checkpoint-5/latest": "global_step5",
      "config.json": CLASSIFIER, "model.safetensors": ""}, "model"),
    ("plain checkpoint", {"config.json": CLASSIFIER, "model.safetensors": "", "optimizer.pt": "",
                          "trainer_state.json": {}}, "model"),
    ("plain checkpoint of an adapter",
     {"adapter_config.json": {}, "adapter_model.safetensors": "", "optimizer.pt": ""}, "adapter"),
]  # fmt: skip


@pytest.fixture
def lay(write: Callable[[str, str], Path], tmp_path: Path) -> Callable[[Files], Path]:
    """lay(files): a directory with these files, objects as JSON."""

    def lay_files(files: Files) -> Path:
        (tmp_path / "it").mkdir(exist_ok=True)
        for name, content in files.items():
            write(f"it/{name}", content if isinstance(content, str) else json.dumps(content))
        return tmp_path / "it"

    return lay_files


@pytest.mark.parametrize(("files", "kind"), [pytest.param(f, k, id=n) for n, f, k in KINDS])
def test_a_kind_is_recognised(files: Files, kind: str, lay: Callable[[Files], Path]) -> None:
    assert identify(lay(files)).kind == kind


def test_the_artifact_of_a_run_is_in_its_model_directory(lay: Callable[[Files], Path]) -> None:
    folder = lay({"config.yaml": "fingerprint: sha256:0\n"})
    assert identify(folder).folder == folder / "model"


def test_a_step_is_found_from_everywhere_above(lay: Callable[[Files], Path]) -> None:
    parent = lay({f"checkpoint-5/{RANK}": "", "checkpoint-5/latest": "global_step5"})
    step = parent / "checkpoint-5" / "global_step5"
    for path in (parent, step.parent, step):
        found = identify(path)
        assert (found.kind, found.folder, found.config) == ("ZeRO checkpoint", step, None)
    assert found.title == "ZeRO checkpoint, without config"


@pytest.mark.parametrize("place", ["checkpoint-5/config.json", "adapter_config.json"])
def test_a_config_is_found_in_a_checkpoint_or_above(
    place: str, lay: Callable[[Files], Path]
) -> None:
    parent = lay({f"checkpoint-5/{RANK}": "", place: {}})
    found = identify(parent / "checkpoint-5")
    assert found.config == parent / place
    assert found.title.endswith(f"with {Path(place).name}")


def test_latest_that_points_nowhere_is_still_a_checkpoint(lay: Callable[[Files], Path]) -> None:
    folder = lay({RANK: "", "latest": "global_step77"})
    assert (identify(folder).kind, identify(folder).folder) == ("ZeRO checkpoint", folder)


def test_no_directory_is_a_usage_error(tmp_path: Path, write: Callable[[str, str], Path]) -> None:
    with pytest.raises(UsageError, match="no such directory"):
        identify(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is a file; name the directory"):
        identify(write("model.safetensors", ""))
