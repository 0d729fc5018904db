"""What a run leaves beside its artifact when it is asked to, or refuses before it trains."""

import dataclasses
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.classifiers_for_tests import (
    FAMILIES,
    WIDER,
    build,
    logits_of,
    resized,
    save,
    stamp_as_is,
    tune,
)
from tests.hallmarks_for_tests import blank_hallmark
from tests.verifying_for_tests import verifying_here

from textassay import Classifier
from textassay.artifacts import merging
from textassay.artifacts.hallmark import FILE, TOLERANCE_QUANTIZED, read_hallmark, verify
from textassay.artifacts.kinds import ADAPTER, MODEL, load_artifact
from textassay.artifacts.merging import publish_merged
from textassay.config.load import resolve_job
from textassay.config.runs import Run
from textassay.errors import GateError, UsageError
from textassay.files import read_json, sha256_file, write_json
from textassay.training import final
from textassay.training.final import METHOD_CONFIG, publish_extras, refuse_final_directory
from textassay.training.run import run_training

pytestmark = pytest.mark.usefixtures("verified_here")
QUICK = {
    "data.name": "sentiment5_en",
    "data.max_samples": "80",
    "model.max_seq_length": "32",
    "training.num_train_epochs": "1",
    "training.learning_rate": "1e-2",
    "training.precision": "fp32",
    "evaluation.baselines": "false",
    "evaluation.bootstrap_samples": "100",
    "evaluation.probe_rows": "4",
}
PROMISED = {
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
    "label_mapping.json", "combined_finetune_config.json", "hallmark.json", "README.md",
}  # fmt: skip
TEXTS = ["Heaven, and they do takeaway.", "Cold, slow and dear.", "It was fine."]


def quick_run(base: Path, folder: Path, launcher: str = "lora", **given: str) -> Run:
    settings = {**QUICK, "model.model_name_or_path": str(base), **given}
    if launcher == "lora" and "method.name" not in given:
        settings.setdefault("method.target_modules", "query,value")
    job, _ = resolve_job(None, None, {}, settings, launcher)
    return Run(job, 0, folder)


@pytest.fixture(scope="module")
def whole(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that leaves everything there is: DoRA with rsLoRA, merged, flat, old names.

    Something older stands where it is to be put, and the run is forced.
    """
    folder = tmp_path_factory.mktemp("whole")
    (folder / "deep" / "final").mkdir(parents=True)
    (folder / "deep" / "final" / "old.txt").write_text("old")
    (folder / "deep" / "final" / METHOD_CONFIG).write_text("{}")  # of an earlier run
    write_older(folder / "deep" / "final", "old.txt")
    run = quick_run(
        tiny_base, folder / "run",
        **{"method.use_dora": "true", "method.use_rslora": "true", "method.r": "4",
           "artifact.final_model_dir": str(folder / "deep" / "final"),
           "artifact.save_merged": "true", "artifact.save_bin": "true"},
    )  # fmt: skip
    with verifying_here():
        run_training(dataclasses.replace(run, force=True))
    return run


def write_older(folder: Path, *files: str) -> None:
    """What another run has put into a final directory, with these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*files, METHOD_CONFIG):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    stamped = dict.fromkeys([*files, METHOD_CONFIG], "sha256:0")
    write_json(folder / FILE, blank_hallmark(files=stamped))


def final_of(run: Run) -> Path:
    return Path(run.job.artifact.final_model_dir or "")


@pytest.mark.slow
def test_a_final_directory_holds_what_is_promised_and_nothing_older(whole: Run) -> None:
    names = {path.name for path in final_of(whole).iterdir()}
    assert names == PROMISED | {"pytorch_model.bin", "adapter"}
    adapter = {path.name for path in (final_of(whole) / "adapter").iterdir()}
    own = {path.name for path in whole.model_dir.iterdir()}
    assert adapter == own | {"adapter_model.bin"}
    assert [path.name for path in final_of(whole).parent.iterdir()] == ["final"]
    assert whole.is_finished()


@pytest.mark.slow
def test_every_artifact_of_a_run_gives_the_same_logits(whole: Run) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    final = final_of(whole)
    folders = {"model": whole.model_dir, "merged": whole.path / "merged", "final": final,
               "adapter": final / "adapter"}  # fmt: skip
    classifiers = {name: Classifier.load(path) for name, path in folders.items()}
    found = {name: classifier.logits(TEXTS) for name, classifier in classifiers.items()}
    temperatures = {classifier.temperature for classifier in classifiers.values()}
    assert len(temperatures) == 1 and temperatures != {1.0}
    np.testing.assert_array_equal(found["adapter"], found["model"])
    np.testing.assert_array_equal(found["final"], found["merged"])
    np.testing.assert_allclose(found["merged"], found["model"], atol=1e-4)
    # An adapter beside the merged model would be applied to it a second time.
    plain = AutoModelForSequenceClassification.from_pretrained(final).eval()
    assert not hasattr(plain, "peft_config")
    tokenizer = AutoTokenizer.from_pretrained(final)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        theirs = plain(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    np.testing.assert_allclose(theirs, found["model"], atol=1e-4)


@pytest.mark.slow
def test_the_hallmarks_of_a_run_are_a_chain(whole: Run) -> None:
    first, merged = whole.model_dir, whole.path / "merged"
    parent = sha256_file(first / FILE)
    for folder, kind, source in (
        (merged, MODEL, first),
        (final_of(whole), MODEL, merged),
        (final_of(whole) / "adapter", ADAPTER, first),
    ):
        hallmark = read_hallmark(folder)
        assert hallmark is not None
        assert hallmark["made_from"] == sha256_file(source / FILE)
        assert hallmark["kind"] == kind
        assert len(hallmark["probe"]["texts"]) == 4
        assert "4 probe rows" in verify(folder)
    assert read_json(whole.path / "test_results.json")["hallmark"] == parent


@pytest.mark.slow
def test_the_old_names_hold_the_same_tensors(whole: Run) -> None:
    folder = final_of(whole)
    for old, new in (
        ("adapter/adapter_model.bin", "adapter/adapter_model.safetensors"),
        ("pytorch_model.bin", "model.safetensors"),
    ):
        one = torch.load(folder / old, weights_only=True)
        other = load_file(folder / new)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    merged = whole.path / "merged" / "model.safetensors"
    assert sha256_file(folder / merged.name) == sha256_file(merged)
    adapter = whole.model_dir / "adapter_model.safetensors"
    assert sha256_file(folder / "adapter" / adapter.name) == sha256_file(adapter)


@pytest.mark.slow
def test_the_other_files_say_what_the_model_is(whole: Run) -> None:
    from transformers import BertTokenizerFast

    folder = final_of(whole)
    assert read_json(folder / METHOD_CONFIG) == {
        "base_model": whole.job.model.model_name_or_path,
        "max_length": 32,
        "method": {
            "name": "lora", "target_modules": ["query", "value"], "use_dora": True,
            "use_rslora": True, "r": 4,
        },
        "learning_rate": 1e-2,
        "num_train_epochs": 1,
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 64,
        "seed": 0,
    }  # fmt: skip
    labels = Classifier.load(folder).labels
    assert len(labels) == 5
    for name in ("label_mapping.json", "config.json"):
        assert read_json(folder / name)["label2id"] == {n: i for i, n in enumerate(labels)}
    # The vocabulary as BERT's own programs read it: a line for each id, in their order.
    ours = load_artifact(folder).tokenizer
    words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert words == ours.convert_ids_to_tokens(list(range(len(ours))))
    alone = BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True)
    for text in TEXTS:
        assert alone(text)["input_ids"] == ours(text)["input_ids"]


def test_a_final_directory_that_holds_something_is_refused_before_training(
    tiny_base: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "final"
    folder.mkdir()
    (folder / "precious.txt").write_text("mine")
    file = tmp_path / "a-file"
    file.write_text("mine")
    for named in (folder, file):
        run = quick_run(tiny_base, tmp_path / "run", **{"artifact.final_model_dir": str(named)})
        with pytest.raises(
            UsageError, match=r"final_model_dir: .* is (not empty|a file); name another"
        ):
            run_training(run)
        assert not run.path.exists()
    assert (folder / "precious.txt").read_text() == file.read_text() == "mine"


@pytest.mark.slow
def test_a_full_model_is_flat_already(tiny_base: Path, tmp_path: Path) -> None:
    given = {"artifact.final_model_dir": str(tmp_path / "final")}
    run = quick_run(tiny_base, tmp_path / "run", "full", **given)
    built = build(tiny_base)
    stamp_as_is(run.model_dir, save(run.model_dir, built.model, built.tokenizer))
    publish_extras(run)
    names = {path.name for path in (tmp_path / "final").iterdir()}
    assert names == PROMISED - {"README.md"}
    assert not (run.path / "merged").exists()
    hallmark = read_hallmark(tmp_path / "final")
    assert hallmark is not None
    assert hallmark["kind"] == MODEL
    assert hallmark["made_from"] == sha256_file(run.model_dir / FILE)


def test_force_replaces_nothing_that_no_run_has_written(tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "thesis.txt").write_text("mine")
    # The older trainer writes a file of this name beside its model, and no hallmark.
    (tmp_path / "final" / "combined_finetune_config.json").write_text("{}")
    given = {"artifact.final_model_dir": str(tmp_path / "final")}
    run = dataclasses.replace(quick_run(tiny_base, tmp_path / "run", **given), force=True)
    with pytest.raises(UsageError, match="is not empty"):
        refuse_final_directory(run)


@pytest.mark.parametrize("place", [".", "run", "run/model"])
def test_a_final_directory_around_or_in_the_run_is_refused(
    place: str, tiny_base: Path, tmp_path: Path
) -> None:
    given = {"artifact.final_model_dir": str(tmp_path / place)}
    run = quick_run(tiny_base, tmp_path / "run", **given)
    for forced in (run, dataclasses.replace(run, force=True)):
        with pytest.raises(UsageError, match="would replace the run"):
            refuse_final_directory(forced)


def test_a_directory_that_is_there_and_empty_needs_no_force(
    tiny_base: Path, tmp_path: Path
) -> None:
    (tmp_path / "final").mkdir()
    for name in ("final", "not there yet"):
        given = {"artifact.final_model_dir": str(tmp_path / name)}
        refuse_final_directory(quick_run(tiny_base, tmp_path / "run", **given))


@pytest.mark.parametrize("wanted", ["save_merged", "final_model_dir"])
@pytest.mark.parametrize(
    "method", [{"method.name": "bottleneck"},
               {"method.name": "prompt_tuning", "method.num_virtual_tokens": "4"}]
)  # fmt: skip
def test_what_cannot_be_merged_is_refused_before_training(
    method: dict[str, str], wanted: str, tiny_base: Path, tmp_path: Path
) -> None:
    value = "true" if wanted == "save_merged" else str(tmp_path / "final")
    run = quick_run(tiny_base, tmp_path / "run", **method, **{f"artifact.{wanted}": value})
    with pytest.raises(UsageError, match=rf"{method['method.name']} cannot be merged .*leave"):
        run_training(run)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"artifact.save_bin": "true"}, "save_bin goes with artifact.final_model_dir"),
        (
            {"artifact.final_model_dir": "final", "seeds": "0,1"},
            "holds one model, and the job has 2 seeds",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    given: dict[str, str], reason: str, tiny_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=reason):
        quick_run(tiny_base, tmp_path, **given)


@pytest.fixture
def qlora(tmp_path: Path) -> Iterator[Path]:
    """A stamped adapter on a Llama in 4 bits."""
    pytest.importorskip("bitsandbytes")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    base = resized(FAMILIES["llama"](tmp_path / "tiny"), tmp_path / "base", **WIDER["llama"])
    built = build(base, head="mlp", load_in_4bit=True)
    model = tune(built, base, name="lora", target_modules=["q_proj", "v_proj"])
    stamp_as_is(tmp_path / "adapter", save(tmp_path / "adapter", model, built.tokenizer))
    yield tmp_path / "adapter"


@pytest.mark.slow
def test_the_difference_of_a_merged_base_in_4_bits_is_told(qlora: Path, tmp_path: Path) -> None:
    difference = publish_merged(qlora, tmp_path / "merged")
    logits: Any = [np.array((read_hallmark(folder) or {})["probe"]["logits"])
                   for folder in (qlora, tmp_path / "merged")]  # fmt: skip
    assert difference == pytest.approx(np.abs(logits[0] - logits[1]).max())
    assert 0 < difference < TOLERANCE_QUANTIZED
    assert "5 probe rows" in verify(tmp_path / "merged")
    assert not (tmp_path / "merged" / "adapter_config.json").exists()


def test_a_merged_model_that_answers_otherwise_is_not_saved(
    qlora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault is real: bitsandbytes' own merge rounds to 4 bits again, and here a lost head."""
    plain: Callable[..., Any] = merging.merged_classifier

    def faulty(folder: Path, base: str | None = None) -> Any:
        merged = plain(folder, base)
        torch.nn.init.normal_(merged.score[-1].weight)
        return merged

    monkeypatch.setattr(merging, "merged_classifier", faulty)
    with pytest.raises(GateError, match=r"merged model's logits differ by .* nothing was saved"):
        publish_merged(qlora, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    (qlora / FILE).unlink()
    with pytest.raises(GateError, match="carries no hallmark"):
        publish_merged(qlora, tmp_path / "merged")


def test_the_helper_tells_two_texts_apart(qlora: Path) -> None:
    """Else nothing above would prove anything."""
    found = logits_of(load_artifact(qlora), texts=["a good film", "dull"])
    assert np.abs(found[0] - found[1]).max() > 1e-3


def run_into(base: Path, folder: Path, place: str, force: bool = False) -> Run:
    given = {"artifact.final_model_dir": place}
    return dataclasses.replace(quick_run(base, folder / "run", **given), force=force)


@pytest.mark.parametrize("force", [False, True])
def test_files_of_the_users_own_in_a_final_directory_are_named_and_kept(
    force: bool, tiny_base: Path, tmp_path: Path
) -> None:
    """They stood beside what a run had put there, and went with it under --force."""
    write_older(tmp_path / "final", "config.json", "adapter/weights")
    (tmp_path / "final" / "thesis.txt").write_text("mine")
    with pytest.raises(
        UsageError, match=r"final holds thesis\.txt, which no run has written; move"
    ):
        refuse_final_directory(run_into(tiny_base, tmp_path, str(tmp_path / "final"), force))
    (tmp_path / "final" / "thesis.txt").unlink()
    run = run_into(tiny_base, tmp_path, str(tmp_path / "final"), force)
    if force:
        refuse_final_directory(run)
    else:
        with pytest.raises(UsageError, match=r"is not empty; .*--force"):
            refuse_final_directory(run)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_final_directory_that_is_a_link_stays_one(
    is_there: bool, tiny_base: Path, tmp_path: Path
) -> None:
    if is_there:
        write_older(tmp_path / "disk", "config.json")
    (tmp_path / "final").symlink_to("disk")
    refuse_final_directory(run_into(tiny_base, tmp_path, str(tmp_path / "final"), force=True))
    publish_into(tmp_path / "final")
    assert (tmp_path / "final").is_symlink()
    assert {path.name for path in (tmp_path / "disk").iterdir()} == {"new.txt", METHOD_CONFIG, FILE}


def test_a_final_directory_cannot_be_under_a_file_or_in_a_circle(
    tiny_base: Path, tmp_path: Path
) -> None:
    """Either was found out after the training."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "circle").symlink_to("circle")
    for place, says in (("file/final", "file is a file"), ("circle", "circle is a (link|file)")):
        with pytest.raises(UsageError, match=says):
            refuse_final_directory(run_into(tiny_base, tmp_path, str(tmp_path / place)))


def publish_into(folder: Path) -> None:
    """As the end of a run does, but with an artifact of two small files."""
    with final._replacing_directory(final.resolved(folder)) as scratch:
        write_older(scratch, "new.txt")


@pytest.mark.parametrize("place", ["here", "mounted"])
def test_a_final_directory_that_cannot_be_renamed_is_filled(
    place: str,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of the current folder and of mount points (docker -v X:/out) it was said after training."""
    folder = tmp_path / "final"
    folder.mkdir()
    monkeypatch.chdir(folder if place == "here" else tmp_path)
    if place == "mounted":
        mount_memory_on(folder)
    try:
        write_older(folder, "old.txt", "adapter/weights")
        before = folder.stat().st_ino
        named = "." if place == "here" else str(folder)
        refuse_final_directory(run_into(tiny_base, tmp_path, named, force=True))
        (folder / "lost+found").mkdir()
        (folder / "meanwhile.txt").write_text("mine")
        with pytest.raises(OSError, match="no space"), final._replacing_directory(folder):
            raise OSError(28, "no space")
        assert (folder / "old.txt").exists() and not (folder / final.ARRIVING).exists()
        publish_into(Path(named))
        assert folder.stat().st_ino == before
        assert {path.name for path in folder.iterdir()} == {
            "new.txt", METHOD_CONFIG, FILE, "lost+found", "meanwhile.txt",
        }  # fmt: skip
        assert "kept meanwhile.txt, which no run has written" in capsys.readouterr().err
    finally:
        if place == "mounted":
            subprocess.run(["umount", str(folder)], check=True)


def mount_memory_on(folder: Path) -> None:
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting needs root and mount(8)")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
