"""Exports of other people's classifiers: the right logits, each text alone and in a batch."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.commands_for_tests import go_offline, paragraph, script
from tests.foreign_artifacts_for_tests import (
    TEXTS,
    Made,
    adapter_on_4_bits,
)
from tests.foreign_doors_for_tests import (
    NEWTOK,
    asked,
    assert_refused,
    make_each_once,
    probabilities,
    shares_in,
    write_rows,
)

from textassay.artifacts.classifier import Classifier

pytestmark = pytest.mark.slow
# Exports take seconds each: one of each way in which an artifact is read otherwise than BERT's.
EXPORTED = [
    "adapter in a pickle", "adapter without a config", "tokens added",
    "tokens added, embeddings saved whole", "rows added that no token has", "cut on the left",
    "length as text", "default labels", "unused pooler", "positions begin at pad + 1",
    "pad id of config is another", "no pad token anywhere", "pad id below 0",
]  # fmt: skip
NOT_EXPORTED = {
    "xlnet": "torch cannot export",
    "padding gets through convolutions": "does not compute",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """made(name): an artifact of OPEN or SHUT, made once."""
    return make_each_once(tmp_path_factory.mktemp("theirs"))


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    go_offline(monkeypatch, tmp_path / "caches")


@pytest.mark.parametrize("name", EXPORTED)
def test_an_export_answers_alone_and_in_a_batch(name: str, made: Callable[[str], Made]) -> None:
    artifact = made(name)
    forms = ["onnx", "merged"] if (artifact.folder / "adapter_config.json").exists() else ["onnx"]
    rows = write_rows(asked(name), artifact)
    for form in forms:
        result = script("export")(artifact.folder, "--to", form, "--output_dir", form,
                                  "--data_path", rows)  # fmt: skip
        assert result.exit_code == 0, result.output
        exported = Classifier.load(form, device="cpu")
        alone = np.concatenate([exported.logits([text]) for text in TEXTS])
        np.testing.assert_allclose(alone, artifact.logits, atol=1e-4)
        np.testing.assert_allclose(exported.logits(TEXTS), artifact.logits, atol=1e-4)


@pytest.mark.parametrize("name", NOT_EXPORTED)
def test_what_torch_s_exporter_cannot_do_is_refused(name: str, made: Callable[[str], Made]) -> None:
    artifact = made(name)
    rows = write_rows(asked(name), artifact)
    result = script("export")(artifact.folder, "--to", "onnx", "--output_dir", "onnx",
                              "--data_path", rows)  # fmt: skip
    assert_refused(result, NOT_EXPORTED[name])
    assert not Path("onnx").exists()


def test_an_export_refuses_a_token_that_was_not_saved(tmp_path: Path) -> None:
    folder = NEWTOK(tmp_path / "it").folder
    rows = [{"text": text, "label": "bad"} for text in TEXTS if "NEWTOK" not in text]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = script("export")(folder, "--to", "onnx", "--data_path", "rows.jsonl",
                            "--output_dir", "onnx")  # fmt: skip
    assert made.exit_code == 0, made.output
    result = script("predict")("onnx", "--text", "NEWTOK is new")
    assert result.exit_code == 65, result.output
    assert "text 1: has the token 'NEWTOK'" in paragraph(result.stderr)


def test_an_adapter_on_a_base_in_4_bits_answers_from_every_door(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    artifact = adapter_on_4_bits(tmp_path / "it")
    wanted = probabilities(artifact.logits)
    rows = write_rows(TEXTS, artifact)
    told = [artifact.folder, "--data_path", rows]
    for form in ("merged", "onnx"):
        made = script("export")(*told, "--to", form, "--output_dir", form)
        assert made.exit_code == 0, made.output
    for place in (artifact.folder, "merged", "onnx"):
        result = script("predict")(place, "--input", rows, "--output", "all.jsonl", "--force")
        assert result.exit_code == 0, result.output
        np.testing.assert_allclose(shares_in(Path("all.jsonl").read_text()), wanted, atol=0.02)
    assert script("evaluate")(*told, "--output_dir", "tested").exit_code == 0
    assert script("doctor")(artifact.folder).exit_code == 0
