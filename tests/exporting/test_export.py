"""`scripts/export.py`: what is written answers like its source, says so, and carries the proof."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from click.testing import Result
from tests.commands_for_tests import go_offline, script
from tests.stored_runs_for_tests import make_place

from textassay.artifacts.classifier import Classifier
from textassay.artifacts.hallmark import read_hallmark, verify
from textassay.errors import GateError
from textassay.exporting import to_onnx
from textassay.files import sha256_file

pytestmark = pytest.mark.slow
TEXTS = ["a dull film", "nothing special", "warm and funny", ""]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, rows, and the LoRA run `a`, whose exports are made once."""
    root = tmp_path_factory.mktemp("export")
    make_place(root, tmp_path_factory.mktemp("caches"))
    with pytest.MonkeyPatch.context() as patch:
        go_offline(patch, root / "caches")
        done = export(root / "a", "--to", "onnx-int8", "--accept_unproven")
        assert done.exit_code == 0, done.output
        (root / "said.txt").write_text(done.output)
    return root


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    go_offline(monkeypatch, tmp_path / "caches")


def export(*arguments: object) -> Result:
    return script("export")(*arguments)


def test_all_forms_answer_alike(place: Path) -> None:
    adapter = Classifier.load(place / "a" / "model").predict_proba(TEXTS)
    onnx = Classifier.load(place / "a" / "onnx")
    small = Classifier.load(place / "a" / "onnx-int8")
    assert (onnx.kind, small.kind) == ("onnx", "onnx-int8")
    np.testing.assert_allclose(onnx.predict_proba(TEXTS), adapter, atol=1e-5)
    np.testing.assert_allclose(small.predict_proba(TEXTS), adapter, atol=0.02)
    assert onnx.labels == small.labels == ["bad", "fine", "good"]


def test_every_step_is_stamped_with_the_one_before(place: Path) -> None:
    """INT8 from ONNX from the adapter, and each holds."""
    run = place / "a"
    chain = [read_hallmark(run / name) for name in ("model", "onnx", "onnx-int8")]
    assert chain[1]["made_from"] == sha256_file(run / "model" / "hallmark.json")
    assert chain[2]["made_from"] == sha256_file(run / "onnx" / "hallmark.json")
    assert [one["kind"] for one in chain] == ["adapter", "onnx", "onnx-int8"]
    assert chain[1]["base"] == chain[0]["base"]
    assert chain[2]["quantization"]["cpu"] is not None
    assert chain[2]["validation"]["rows"] == 9
    for name in ("onnx", "onnx-int8"):
        assert "files as stamped" in verify(run / name)


def test_the_verdict_and_the_table_are_said_and_kept(place: Path) -> None:
    said = (place / "said.txt").read_text()
    assert "unproven: macro-F1" in said
    assert "texts a second" in said
    record = json.loads((place / "a" / "onnx-int8" / "export.json").read_text())
    assert record["verdict"]["state"] == "unproven"
    assert [row["name"] for row in record["table"]] == ["onnx", "onnx-int8"]
    assert record["table"][1]["size"] < record["table"][0]["size"]
    assert "| onnx-int8 |" in (place / "a" / "onnx-int8" / "README.md").read_text()


def test_few_rows_are_no_proof(place: Path, tmp_path: Path) -> None:
    done = export(place / "a", "--to", "onnx-int8", "--output_dir", tmp_path / "small")
    assert done.exit_code == 3
    assert "--accept_unproven" in done.output
    assert not (tmp_path / "small").exists()


def test_nothing_is_replaced_unasked(place: Path) -> None:
    done = export(place / "a", "--to", "onnx")
    assert done.exit_code == 2
    assert "--force" in done.output
    assert export(place / "a" / "onnx", "--to", "onnx").exit_code == 2


def test_somebody_elses_folder_is_not_replaced_even_by_force(place: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    done = export(place / "a", "--to", "onnx", "--output_dir", tmp_path / "mine", "--force")
    assert done.exit_code == 2
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_a_changed_artifact_is_not_exported(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "a", tmp_path / "run")
    weights = tmp_path / "run" / "model" / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    done = export(tmp_path / "run", "--to", "onnx", "--output_dir", tmp_path / "out")
    assert done.exit_code == 3
    assert not (tmp_path / "out").exists()


def test_a_graph_that_computes_something_else_is_not_written(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if torch's exporter had lost a factor."""
    own = to_onnx.export_graph

    def wrong(model: torch.nn.Module, temperature: float, path: Path) -> None:
        with torch.no_grad():
            model.classifier.weight.mul_(1.01)
        own(model, temperature, path)

    monkeypatch.setattr(to_onnx, "export_graph", wrong)
    done = export(place / "a", "--to", "onnx", "--output_dir", tmp_path / "out")
    assert done.exit_code == 3
    assert "does not compute what torch does" in done.output
    assert not (tmp_path / "out").exists()


def test_a_fusion_that_breaks_the_graph_is_left_out(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = to_onnx.fuse

    def wrong(source: Path, target: Path) -> object:
        found = own(source, target)
        graph = to_onnx.Graph.load(target)
        name = next(name for name in graph.constants if name.endswith("classifier.bias"))
        graph.add_constant(name, graph.array(name) + 1)
        graph.save(target)
        return found

    monkeypatch.setattr(to_onnx, "fuse", wrong)
    done = export(place / "a", "--to", "onnx", "--output_dir", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "not fused" in done.output
    verify(tmp_path / "out")


def test_merged_loads_in_plain_transformers(place: Path, tmp_path: Path) -> None:
    done = export(place / "a", "--to", "merged", "--save_bin", "--output_dir", tmp_path / "merged")
    assert done.exit_code == 0, done.output
    assert "all labels equal" in done.output
    assert (tmp_path / "merged" / "pytorch_model.bin").is_file()
    adapter = Classifier.load(place / "a" / "model").logits(TEXTS[:1])
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "merged")
    found = model.eval()(**tokenizer(TEXTS[:1], return_tensors="pt")).logits.detach().numpy()
    np.testing.assert_allclose(found, adapter, atol=1e-5)
    assert export(tmp_path / "merged", "--to", "merged").exit_code == 2


def test_a_classifier_without_a_hallmark_is_exported_on_named_rows(
    place: Path, tmp_path: Path
) -> None:
    shutil.copytree(place / "a" / "model", tmp_path / "theirs")
    (tmp_path / "theirs" / "hallmark.json").unlink()
    alone = export(tmp_path / "theirs", "--to", "onnx")
    assert alone.exit_code == 2
    assert "--data_path" in alone.output
    done = export(tmp_path / "theirs", "--to", "onnx", "--data_path", place / "rows.csv")
    assert done.exit_code == 0, done.output
    assert "carries no hallmark" in done.output
    assert (tmp_path / "theirs-onnx" / "model.onnx").is_file()
    verify(tmp_path / "theirs-onnx")


def test_a_flag_of_another_form_is_a_mistake(place: Path) -> None:
    for flag, form in (
        ("--static", "onnx"),
        ("--save_bin", "onnx"),
        ("--accept_unproven", "merged"),
    ):
        done = export(place / "a", "--to", form, flag)
        assert done.exit_code == 2
        assert f"{flag} goes with --to" in done.output


@pytest.mark.parametrize("name", ["model_quantized.onnx", "tokenizer.json", "config.json"])
def test_what_was_cut_off_or_swapped_is_not_loaded(name: str, place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(place / "a" / "onnx-int8", folder)
    content = (folder / name).read_text() if name == "config.json" else None
    if content:
        (folder / name).write_text(content.replace('"bad"', '"x"').replace('"good"', '"bad"'))
    else:
        (folder / name).write_bytes((folder / name).read_bytes()[:-100])
    with pytest.raises(GateError):
        Classifier.load(folder)


def test_an_onnx_artifact_is_evaluated_and_compared_like_any_other(
    place: Path, tmp_path: Path
) -> None:
    """With the same labels as the adapter's on every row."""
    run = place / "a"
    told = script("evaluate")(run / "onnx", "--output_dir", tmp_path / "told")
    assert told.exit_code == 0, told.output
    assert (tmp_path / "told" / "report.html").is_file()
    compared = script("compare")(run, run / "onnx")
    assert compared.exit_code == 0, compared.output
    assert "No detectable difference" in compared.output
    doctored = script("doctor")(run / "onnx-int8")
    assert doctored.exit_code == 0, doctored.output
