"""Adapters on one base keep its weights once, and nothing in memory is still the file's."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.classifiers_for_tests import LABELS, build, save, tune
from tests.models_for_tests import TEXTS, tiny_bert

from textassay.artifacts.classifier import Classifier
from textassay.artifacts.sharing import SharedWeights
from textassay.data.labels import LabelMap

ATTENTION = {"target_modules": ["query", "value"]}
METHODS = {
    "lora": {"name": "lora", **ATTENTION},
    "dora": {"name": "lora", "use_dora": True, "target_modules": ["key", "output.dense"]},
    "ia3": {"name": "ia3", "target_modules": ["value"], "feedforward_modules": []},
    "bottleneck": {"name": "bottleneck", "bottleneck_size": 4},
}
OTHER_LABELS = LabelMap(("no", "yes"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One adapter of every method on the same base, one of them with other labels."""
    root = tmp_path_factory.mktemp("adapters")
    base = tiny_bert(root / "base")
    for name, method in METHODS.items():
        labels = OTHER_LABELS if name == "dora" else LABELS
        built = build(base, labels)
        save(root / name, tune(built, base, **method), built.tokenizer, labels)
    return {name: root / name for name in METHODS}


def weights(classifier: Classifier) -> dict[str, torch.Tensor]:
    return dict(classifier._predictor.model.named_parameters())


def unique_bytes(classifiers: list[Classifier]) -> int:
    """What all weights need in memory; those that share a place count once."""
    places = {w.data_ptr(): w.nbytes for one in classifiers for w in weights(one).values()}
    return sum(places.values())


def test_the_base_is_in_memory_once_for_every_method_and_answers_stay(folders) -> None:
    alone = {name: Classifier.load(folder).logits(TEXTS) for name, folder in folders.items()}
    classifiers = {name: Classifier.load(folder) for name, folder in folders.items()}
    before = unique_bytes([*classifiers.values()])
    pool = SharedWeights()
    shared = {name: pool.adopt(classifier) for name, classifier in classifiers.items()}
    for name, classifier in classifiers.items():
        np.testing.assert_array_equal(classifier.logits(TEXTS), alone[name])
    assert unique_bytes([*classifiers.values()]) == before - sum(shared.values())
    embeddings = {
        next(w for n, w in weights(c).items() if "word_embeddings" in n).data_ptr()
        for c in classifiers.values()
    }
    assert len(embeddings) == 1
    base = sum(w.nbytes for n, w in weights(classifiers["lora"]).items()
               if "lora_" not in n and "classifier" not in n and "pooler" not in n)  # fmt: skip
    for name in ("dora", "ia3", "bottleneck"):
        assert shared[name] >= base, name


def test_what_differs_is_not_shared(folders) -> None:
    one, two = Classifier.load(folders["lora"]), Classifier.load(folders["lora"])
    changed = next(w for n, w in weights(two).items() if "word_embeddings" in n)
    with torch.no_grad():  # its last element only, where no quick look finds it
        changed.data = changed.data.clone()
        changed.view(-1)[-1] += 1
    pool = SharedWeights()
    pool.adopt(one)
    pool.adopt(two)
    first = next(w for n, w in weights(one).items() if "word_embeddings" in n)
    assert first.data_ptr() != changed.data_ptr()
    assert not torch.equal(first, changed)


def test_a_file_that_is_overwritten_changes_nothing_in_memory(folders, tmp_path) -> None:
    """The library maps weights into memory, which lasts as long as the file stays as it is."""
    folder, base = tmp_path / "lora", tmp_path / "base"
    shutil.copytree(folders["lora"], folder)
    shutil.copytree(folders["lora"].parent / "base", base)
    classifier = Classifier.load(folder, base=str(base))
    SharedWeights().adopt(classifier)
    before = classifier.logits(TEXTS)
    for file in [*folder.glob("*.safetensors"), *base.glob("*.safetensors")]:
        with file.open("r+b") as stream:
            stream.write(b"\x01" * file.stat().st_size)
    np.testing.assert_array_equal(classifier.logits(TEXTS), before)
