"""scripts/prune.py: what matters least is taken away, and what becomes of the rest is said."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from tests.classifiers_for_tests import LABELS, LENGTH, build, resized, shake
from tests.commands_for_tests import assert_refused, go_offline, script
from tests.models_for_tests import TEXTS, tiny_bert, tiny_qwen2

from textassay.artifacts.hallmark import FILE, read_hallmark, verify
from textassay.artifacts.kinds import Loaded, load_artifact
from textassay.config.load import resolve_job
from textassay.config.runs import Run, stored_config
from textassay.data.read import read_file
from textassay.errors import UsageError
from textassay.files import project_root, read_json, sha256_file
from textassay.models.predict import pad_batch
from textassay.models.pruning import Sizes, layers_of, sizes_of
from textassay.pruning import prune as pruning
from textassay.pruning.importance import gated, measure_importance, most_important
from textassay.pruning.prune import what_is_left
from textassay.training.run import run_training

TRUTH = ["bad", "good", "fine", "bad", "fine"]
CPU = torch.device("cpu")


def loaded_of(built: Any) -> Loaded:
    return Loaded("model", built.model, built.tokenizer, LABELS, LENGTH, None, None)


@pytest.mark.parametrize("make", [tiny_bert, tiny_qwen2])
def test_importance_is_the_mean_slope_of_the_loss(make: Any, tmp_path: Path) -> None:
    built = build(make(tmp_path))
    loaded = loaded_of(built)
    loaded.model = shake(built.model).double()
    found = measure_importance(loaded, TEXTS, TRUTH, CPU)
    sizes = sizes_of(loaded.model)
    assert found.heads.shape == (2, sizes.groups)
    assert found.units.shape == (2, 64)
    for kind, count, place in (("heads", sizes.groups, (1, 0)), ("units", 64, (0, 3))):
        up, down = (losses(loaded, sizes, kind, count, place, 1 + step) for step in (1e-4, -1e-4))
        slopes = np.abs(up - down) / 2e-4
        assert slopes.max() > 1e-4
        np.testing.assert_allclose(getattr(found, kind)[place], slopes.mean(), rtol=0.01)


def losses(
    loaded: Loaded, sizes: Sizes, kind: str, count: int, place: tuple[int, int], value: float
) -> np.ndarray:
    """The loss of each text with one gate not quite open."""
    gates = {
        "heads": [torch.ones(1, sizes.groups, dtype=torch.float64) for _ in range(2)],
        "units": [torch.ones(1, sizes.units, dtype=torch.float64) for _ in range(2)],
    }
    assert gates[kind][0].shape[1] == count
    gates[kind][place[0]][0, place[1]] = value
    batch = pad_batch(loaded.ids(TEXTS), loaded.tokenizer.pad_token_id)
    with gated(loaded.model, gates["heads"], gates["units"]), torch.no_grad():
        logits = loaded.model(**batch).logits.double()
    truth = torch.tensor(LABELS.ids(TRUTH))
    return torch.nn.functional.cross_entropy(logits, truth, reduction="none").numpy()


def test_what_nobody_reads_matters_least(tmp_path: Path) -> None:
    loaded = loaded_of(build(tiny_bert(tmp_path)))
    _, layers = layers_of(loaded.model)
    with torch.no_grad():
        layers[0].attention.output.dense.weight[:, 16:] = 0  # the second head
        layers[1].output.dense.weight[:, ::2] = 0
    found = measure_importance(loaded, TEXTS, TRUTH, CPU)
    assert found.rows == len(TEXTS)
    assert most_important(found.heads, 1)[0] == [0]
    assert most_important(found.units, 32)[1] == list(range(1, 64, 2))


def test_the_most_important_stand_in_their_own_order() -> None:
    assert most_important(np.array([[3.0, 1.0, 4.0, 2.0], [1.0, 1.0, 1.0, 1.0]]), 2) == [
        [0, 2],
        [0, 1],
    ]


@pytest.mark.parametrize(
    ("sizes", "shares", "left"),
    [
        (Sizes(12, 32, 1, 1536), (0.33, 0.33), (8, 1032)),
        (Sizes(12, 32, 1, 1536), (0.0, 0.5), (12, 768)),
        (Sizes(14, 64, 7, 4864), (0.5, 0.0), (7, 4864)),
        (Sizes(2, 16, 1, 60), (0.5, 0.0), (1, 60)),
    ],
)
def test_shares_are_of_what_a_layer_has(
    sizes: Sizes, shares: tuple[float, float], left: tuple[int, int]
) -> None:
    found = what_is_left(sizes, *shares)
    assert (found.heads, found.units) == left
    assert (found.head_size, found.grouped) == (sizes.head_size, sizes.grouped)


@pytest.mark.parametrize(
    ("shares", "says"),
    [
        ((0.9, 0.3), "would leave none of a layer's 2 heads"),
        ((0.3, 0.99), "would leave none of a layer's 64 units"),
        ((0.0, 0.0), "takes nothing away"),
        ((0.1, 0.0), "takes nothing away"),
    ],
)
def test_shares_that_leave_nothing_or_all_are_refused(
    shares: tuple[float, float], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        what_is_left(Sizes(2, 16, 1, 64), *shares)
    with pytest.raises(UsageError, match="would leave none of a layer's 1 groups of heads"):
        what_is_left(Sizes(2, 16, 2, 64), 0.9, 0)


@pytest.mark.parametrize("shares", ["--heads=1", "--heads=-0.1", "--ffn=1.5", "--ffn=nan"])
def test_shares_that_are_none_are_refused_before_anything_is_read(shares: str) -> None:
    assert_refused(script("prune")("nowhere", shares), 2, shares.partition("=")[0], "is the share")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of an adapter; its `model/` is what is pruned."""
    rows = read_file(project_root() / "data" / "samples" / "sentiment5_en.csv")
    small = tiny_bert(tmp_path_factory.mktemp("small"), rows.columns["text"].to_pylist(), 128)
    # With weights so large that a wrong cut shows in the logits.
    base = resized(small, tmp_path_factory.mktemp("base"), initializer_range=0.3)
    given = {
        "data.name": "sentiment5_en", "data.max_samples": 80,
        "model.model_name_or_path": str(base), "model.max_seq_length": 32,
        "method.target_modules": "query,value", "training.max_steps": 6,
        "training.per_device_train_batch_size": 16, "training.precision": "fp32",
        "evaluation.baselines": "false", "evaluation.bootstrap_samples": 100,
        "evaluation.probe_rows": 4,
    }  # fmt: skip
    job, _ = resolve_job(None, None, {}, given, "lora")
    run = Run(job, 7, tmp_path_factory.mktemp("runs") / "tuned")
    with pytest.MonkeyPatch.context() as patch:
        go_offline(patch, tmp_path_factory.mktemp("caches"))
        run_training(run)
    return run.path


@pytest.fixture
def call(tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """call(flags…): the command on the tuned run, in an empty directory."""
    go_offline(monkeypatch, tmp_path / "caches")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    command = script("prune")
    few = ("--recovery_steps", "4", "--output_dir", "out")

    def go(*flags: Any, model: Path = tuned) -> Result:
        return command(model, *few, *flags)

    return go


@pytest.mark.slow
def test_a_pruned_classifier_is_a_run_with_everything(
    call: Callable[..., Result], tuned: Path
) -> None:
    done = call("--heads", "0.5", "--ffn", "0.5")
    assert done.exit_code == 0, done.output
    assert "1 of 2 heads and 32 of 64 units a layer are kept" in done.stderr
    record = read_json(Path("out/pruning.json"))
    original, pruned, recovered = (record["models"][name]
                                   for name in ("original", "pruned", "recovered"))  # fmt: skip
    assert pruned["parameters"] == recovered["parameters"] < original["parameters"]
    assert pruned["weight_bytes"] == Path("out/pruned/model.safetensors").stat().st_size
    assert original["gain"] is None
    assert {(one["heads"], one["units"]) for one in (pruned, recovered)} == {(1, 32)}
    told = read_json(Path("out/test_results.json"))
    for name in ("accuracy", "macro_f1"):
        assert recovered["scores"][name]["value"] == pytest.approx(told[f"test_{name}"])
        for one in (pruned, recovered):
            gain = one["scores"][name]["value"] - original["scores"][name]["value"]
            assert one["gain"][name]["value"] == pytest.approx(gain)
            assert f"{one['scores'][name]['value']:.3f}" in done.stdout
    for name in ("pruned", "model"):
        assert "4 probe rows" in verify(Path("out") / name)
    stamped = read_hallmark(Path("out/pruned"))
    assert stamped and stamped["made_from"] == sha256_file(tuned / "model" / FILE)
    assert stamped["validation"]["rows"] == 80
    assert read_json(Path("out/finished.json"))["hallmark"] == sha256_file(Path("out/model") / FILE)
    config = stored_config(Path("out"))
    assert (config["seed"], config["name"], config["method"]["name"]) == (
        7,
        "sentiment5_en-pruned",
        "full",
    )

    before = Path("out/model/model.safetensors").stat().st_mtime_ns
    again = call("--heads", "0.5", "--ffn", "0.5")
    assert again.exit_code == 0, again.output
    assert "as it was made before" in again.stderr
    assert Path("out/model/model.safetensors").stat().st_mtime_ns == before
    assert_refused(call("--heads", "0.5", "--ffn", "0.25"), 2, "pruned from another artifact")
    assert_refused(call("--heads", "0.5", "--learning_rate", "1e-4"), 2, "another configuration")

    for name, flags in (("doctor", ()), ("verify", ()), ("evaluate", ("--output_dir", "told"))):
        where = "out/pruned"
        result = script(name)(where, *flags)
        assert result.exit_code == 0, f"{name}: {result.output}"
    result = script("compare")("out", tuned)
    assert result.exit_code == 0, result.output
    twice = script("prune")("out", "--heads", 0, "--ffn", "0.5", "--recovery_steps", 2,
                            "--output_dir", "twice")  # fmt: skip
    assert twice.exit_code == 0, twice.output
    assert sizes_of(load_artifact(Path("twice/model")).model) == Sizes(1, 16, 1, 16)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--heads", "0.8"), ("--ffn", "0.99")])
def test_bad_shares_leave_nothing_behind(
    call: Callable[..., Result], flags: tuple[str, str]
) -> None:
    assert_refused(call(*flags), 2, flags[0])
    assert not Path("out").exists()


@pytest.mark.slow
def test_a_wrong_cut_is_refused_and_nothing_is_left(
    call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def others(model: Any, kept: list[list[int]]) -> None:
        keep_units(model, [sorted(set(range(64)) - set(row))[: len(row)] for row in kept])

    keep_units = pruning.keep_units
    monkeypatch.setattr(pruning, "keep_units", others)
    refused = call("--ffn", "0.5")
    assert refused.exit_code == 3
    assert "switched off" in (last := refused.stderr.splitlines()[-1]), last
    assert last.startswith("error: ")
    assert not Path("out").exists()


@pytest.mark.slow
def test_what_cannot_be_pruned_is_refused(
    call: Callable[..., Result], tuned: Path, tmp_path: Path
) -> None:
    lonely = shutil.copytree(tuned / "model", tmp_path / "lonely")
    assert_refused(call(model=lonely), 2, "stands in no run")
    copied = shutil.copytree(tuned, tmp_path / "copied")
    inside = script("prune")(copied, "--output_dir", copied, "--force")
    assert_refused(inside, 2, "holds what is to be pruned")
    within = script("prune")(copied, "--output_dir", copied / "model" / "pruned")
    assert_refused(within, 2, "lies in it")
    (copied / "model" / FILE).unlink()
    assert_refused(call(model=copied), 3, "carries no hallmark")
    assert (copied / "model" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_rows_that_are_not_those_of_the_training_are_refused(
    call: Callable[..., Result], tuned: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(tuned, tmp_path / "copied")
    config = copied / "config.yaml"
    config.write_text(config.read_text().replace("max_samples: 80", "max_samples: 90"))
    assert_refused(call(model=copied), 65, "its fingerprint differs")
