"""Which artifact is served, and that adapters in torch answer as Python does, on one base."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from tests.classifiers_for_tests import build, save, tune
from tests.hallmarks_for_tests import blank_hallmark
from tests.models_for_tests import TEXTS, tiny_bert
from tests.serving.test_app import ask
from tests.serving.tiny_onnx import tiny_onnx

from textassay.artifacts.classifier import Classifier
from textassay.errors import UsageError
from textassay.files import sha256_file, write_json
from textassay.models.source import SETTINGS_KEY
from textassay.prediction.finding import find_artifact
from textassay.serving.choosing import choose_artifact


def stamp(folder: Path, made_from: Path | None) -> None:
    """A hallmark without anything that it could be held to."""
    parent = sha256_file(made_from / "hallmark.json") if made_from else None
    folder.mkdir(exist_ok=True)
    write_json(folder / "hallmark.json", blank_hallmark(kind=folder.name, made_from=parent))


def test_of_a_run_the_fastest_artifact_is_served_unless_one_is_named(tmp_path, capsys) -> None:
    run = tmp_path / "job" / "seed-0"
    (run / "model").mkdir(parents=True)
    (run / "config.yaml").write_text("fingerprint: sha256:0\n")
    assert choose_artifact(str(run), "auto", "auto") == run / "model"
    stamp(run / "model", None)
    stamp(run / "onnx", run / "model")
    assert choose_artifact(str(run), "auto", "cpu") == run / "onnx"
    with pytest.raises(UsageError, match=r"has no onnx-int8/ .*textassay export"):
        choose_artifact(str(run), "onnx-int8", "auto")
    stamp(run / "onnx-int8", run / "onnx")
    assert choose_artifact(str(run), "auto", "cpu") == run / "onnx"
    assert "its onnx/ answers (onnx-int8/ is not proven)" in capsys.readouterr().err
    assert find_artifact(str(run)) == run / "onnx"
    write_json(run / "onnx-int8" / "export.json", {"verdict": {"state": "proven"}})
    assert choose_artifact(str(run), "auto", "cpu") == find_artifact(str(run)) == run / "onnx-int8"
    assert choose_artifact(str(run), "auto", "cuda") == run / "model"
    assert choose_artifact(str(run), "torch", "auto") == run / "model"
    assert choose_artifact(str(run / "onnx"), "auto", "auto") == run / "onnx"
    artifact = tiny_onnx(tmp_path / "alone")
    assert choose_artifact(str(artifact), "auto", "auto") == artifact


def test_an_export_of_another_model_does_not_answer_unasked(tmp_path, capsys) -> None:
    """A run that was trained again keeps the exports of the model that it had before."""
    run = tmp_path / "seed-0"
    run.mkdir()
    (run / "config.yaml").write_text("fingerprint: sha256:0\n")
    stamp(run / "model", None)
    stamp(run / "onnx", run / "model")
    stamp(run / "onnx-int8", run / "onnx")
    write_json(run / "onnx-int8" / "export.json", {"verdict": {"state": "proven"}})
    assert find_artifact(str(run)) == run / "onnx-int8"
    write_json(run / "model" / "hallmark.json", blank_hallmark(another="model"))
    assert choose_artifact(str(run), "auto", "cpu") == find_artifact(str(run)) == run / "model"
    said = "its model/ answers (onnx-int8/ was not made from this model/; onnx/ was not made"
    assert said in capsys.readouterr().err
    assert find_artifact(str(run), "onnx") == run / "onnx"


def test_adapters_on_one_base_share_it_and_answer_as_python_does(local, tmp_path) -> None:
    base = tiny_bert(tmp_path / "base")
    for name, target in (("first", "query"), ("second", "value")):
        built = build(base)
        model = tune(built, base, name="lora", target_modules=[target])
        save(tmp_path / name, model, built.tokenizer)
        config = json.loads((tmp_path / name / "config.json").read_text())
        config[SETTINGS_KEY]["temperature"] = 1.7
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    names = ("first", "second")
    server = local(models=tuple((name, str(tmp_path / name)) for name in names))
    for name in names:
        status, rows = ask(server, f"/models/{name}/predict", {"inputs": list(TEXTS)})
        assert status == 200
        alone = Classifier.load(tmp_path / name)
        found = [[{r["label"]: r["score"] for r in row}[label] for label in alone.labels]
                 for row in rows]  # fmt: skip
        assert alone.temperature == 1.7
        np.testing.assert_allclose(found, alone.predict_proba(TEXTS), atol=1e-6)
    places = [
        {
            weight.data_ptr()
            for key, weight in model.classifier._predictor.model.named_parameters()
            if "embeddings" in key
        }
        for model in server.service.models.values()
    ]
    assert len(places[0]) > 3 and places[0] == places[1]


def test_what_the_model_itself_cannot_read_is_no_5xx_of_others(local) -> None:
    """Many at once, one of them refused: the others are answered."""
    server = local()

    async def run():
        bodies = [json.dumps({"inputs": f"text {n}"}).encode() for n in range(8)]
        bodies[3] = b'{"inputs": "\\ud83d"}'
        return await asyncio.gather(*(server.client.post("/predict", content=b) for b in bodies))

    assert [r.status_code for r in asyncio.run(run())] == [200] * 3 + [422] + [200] * 4
