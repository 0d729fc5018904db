"""Other people's classifiers from every door that answers: predict, evaluate, serve.

The right logits, each text alone and in a batch; `Classifier.load` has its own tests of them.
"""

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.commands_for_tests import go_offline, script
from tests.foreign_artifacts_for_tests import (
    TEXTS,
    Made,
)
from tests.foreign_doors_for_tests import (
    OPEN,
    asked,
    make_each_once,
    probabilities,
    shares_in,
    write_rows,
)
from tests.fork_server import python
from tests.serving.conftest import Server, serving

from textassay.artifacts.classifier import Classifier


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """made(name): an artifact of OPEN or SHUT, made once."""
    return make_each_once(tmp_path_factory.mktemp("theirs"))


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    go_offline(monkeypatch, tmp_path / "caches")


@pytest.mark.parametrize("name", OPEN)
def test_predict_answers_alone_and_in_a_batch(
    name: str, made: Callable[[str], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = made(name)
    wanted = probabilities(artifact.logits)
    monkeypatch.setattr(Classifier, "load", staticmethod(cache(Classifier.load)))
    rows = write_rows(asked(name), artifact)
    predict = script("predict")
    result = predict(artifact.folder, "--device", "cpu", "--input", rows, "--output", "all.jsonl")
    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(shares_in(Path("all.jsonl").read_text()), wanted, atol=1e-4)
    one_by_one = [predict(artifact.folder, "--device", "cpu", "--text", text).stdout
                  for text in asked(name)]  # fmt: skip
    np.testing.assert_allclose(shares_in("".join(one_by_one)), wanted, atol=1e-5)


@pytest.mark.parametrize("name", OPEN)
def test_evaluate_scores_the_same_logits_alone_and_in_a_batch(
    name: str, made: Callable[[str], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[np.ndarray] = []

    def keep(folder: Path, evaluation: Any, *_: Any) -> None:
        found.append(evaluation.logits)

    monkeypatch.setattr("textassay.evaluation.standalone.write_tested", keep)
    artifact = made(name)
    texts = asked(name)
    with_text = [at for at, text in enumerate(texts) if text]  # else there is nothing to score
    rows = write_rows([texts[at] for at in with_text], artifact)
    for size in ("64", "1"):
        arguments = ["--data_path", rows, "--output_dir", "tested", "--batch_size", size]
        result = script("evaluate")(artifact.folder, "--device", "cpu", *arguments)
        assert len(found) == (1 if size == "64" else 2), result.output
    for logits in found:
        wanted = np.array(artifact.logits)[with_text]
        np.testing.assert_allclose(logits, wanted, atol=1e-4, rtol=1e-5)


@pytest.fixture(scope="module")
def server(
    made: Callable[[str], Made], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One server of all that can be answered, which keeps no answers."""
    models = [f"m{number}={made(name).folder}" for number, name in enumerate(OPEN)]
    place = tmp_path_factory.mktemp("server")
    options = ("--device", "cpu", "--cache_size", 0)
    with serving(place, *models, *options, program=python()) as running:
        yield running


@pytest.mark.parametrize("name", OPEN)
def test_a_server_answers_alone_and_in_a_batch(
    name: str, made: Callable[[str], Made], server: Server
) -> None:
    artifact = made(name)
    labels = Classifier.load(artifact.folder, device="cpu").labels
    address = f"/models/m{list(OPEN).index(name)}/predict"

    def ask(what: Any) -> Any:
        status, answer = server.ask(address, {"inputs": what, "raw_scores": True})
        assert status == 200, answer
        return answer

    def logits(rows: list[list[dict[str, Any]]]) -> list[list[float]]:
        return [[{one["label"]: one["score"] for one in row}[name] for name in labels]
                for row in rows]  # fmt: skip

    together = ask([[text] for text in asked(name)])
    one_by_one = [ask(text) for text in asked(name)]
    np.testing.assert_allclose(logits(together), artifact.logits, atol=1e-4, rtol=1e-5)
    np.testing.assert_allclose(logits(one_by_one), artifact.logits, atol=1e-5, rtol=1e-5)


def test_a_hub_name_answers_from_every_door_and_its_cache_stays_as_it_was(
    made: Callable[[str], Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the layout of the hub's cache: a snapshot of links to blobs."""
    artifact = made("bert")
    repository = tmp_path / "hub" / "models--me--classifier"
    snapshot = repository / "snapshots" / ("0123456789abcdef" * 3)[:40]
    for folder in (snapshot, repository / "blobs", repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(snapshot.name)
    for number, file in enumerate(sorted(artifact.folder.iterdir())):
        shutil.copy(file, repository / "blobs" / f"{number:040x}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number:040x}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    before = sorted((tmp_path / "hub").rglob("*"))
    rows = write_rows(TEXTS, artifact)
    result = script("predict")("me/classifier", "--input", rows, "--output", "all.jsonl")
    assert result.exit_code == 0, result.output
    shares = shares_in(Path("all.jsonl").read_text())
    np.testing.assert_allclose(shares, probabilities(artifact.logits), atol=1e-4)
    evaluated = script("evaluate")("me/classifier", "--data_path", rows)
    assert evaluated.exit_code == 0, evaluated.output
    targets: list[Path] = []
    monkeypatch.setattr(
        "textassay.exporting.export.write_onnx", lambda one, to, _: targets.append(to)
    )
    script("export")("me/classifier", "--to", "onnx", "--data_path", rows)
    assert targets and (tmp_path / "hub") not in targets[0].absolute().parents
    assert sorted((tmp_path / "hub").rglob("*")) == before
