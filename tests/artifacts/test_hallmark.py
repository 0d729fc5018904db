"""The hallmark holds whole artifacts and refuses broken ones, with exit code 3 and the reason."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from tests.commands_for_tests import script
from tests.models_for_tests import tiny_bert

from textassay import Classifier
from textassay.artifacts import adapters
from textassay.artifacts.hallmark import (
    FILE,
    check_files,
    main,
    read_hallmark,
    restamp,
    verify,
    verify_in_fresh_process,
)
from textassay.artifacts.kinds import load_artifact
from textassay.artifacts.merging import publish_merged
from textassay.errors import GateError, UsageError
from textassay.evaluation.contenders import load_contender
from textassay.files import sha256_file


def restamp_files(folder: Path) -> None:
    """Make the hashes right again, so that only the deeper checks can notice."""
    hallmark = json.loads((folder / FILE).read_text())
    hallmark["files"] = {name: sha256_file(folder / name) for name in hallmark["files"]}
    (folder / FILE).write_text(json.dumps(hallmark))


def flip_a_byte(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def swap_labels(folder: Path) -> None:
    for name, key in (("label_mapping.json", "id2label"), ("config.json", "id2label")):
        content = json.loads((folder / name).read_text())
        content[key]["0"], content[key]["1"] = content[key]["1"], content[key]["0"]
        (folder / name).write_text(json.dumps(content))


def swap_labels_everywhere(folder: Path) -> None:
    swap_labels(folder)
    path = folder / "config.json"
    content = json.loads(path.read_text())
    content["label2id"] = {name: int(index) for index, name in content["id2label"].items()}
    path.write_text(json.dumps(content))


def lose_the_head(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    kept = {name: t for name, t in load_file(path).items() if "classifier" not in name}
    save_file(kept, path, {"format": "pt"})


def lose_a_file(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()


def add_a_file(folder: Path) -> None:
    (folder / "extra.py").write_text("print('hello')")


def lose_the_hallmark(folder: Path) -> None:
    (folder / FILE).unlink()


def scribble_on_the_hallmark(folder: Path) -> None:
    (folder / FILE).write_text("{}")


def scale_the_weights(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({name: t * 1.01 for name, t in load_file(path).items()}, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("harm", "also_restamp", "reason"),
    [
        (flip_a_byte, False, "adapter_model.safetensors was changed"),
        (swap_labels, False, "was changed after it was stamped: labels were swapped"),
        (swap_labels, True, "label2id is"),
        (swap_labels_everywhere, False, "was changed after it was stamped: labels were swapped"),
        (swap_labels_everywhere, True, "stamped with"),
        (lose_the_head, False, "was changed"),
        (lose_the_head, True, "classifier"),
        (lose_a_file, False, "tokenizer_config.json is missing"),
        (add_a_file, False, "extra.py was added"),
        (lose_the_hallmark, False, "carries no hallmark"),
        (scribble_on_the_hallmark, False, "is not a hallmark"),
        (scale_the_weights, True, "logits of its probe rows differ"),
    ],
)
def test_a_broken_artifact_is_refused(make, tmp_path, harm, also_restamp, reason) -> None:
    make(tmp_path)
    harm(tmp_path)
    if also_restamp:
        restamp_files(tmp_path)
    result = CliRunner().invoke(main, [str(tmp_path)])
    assert result.exit_code == 3
    assert reason in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("method", ["full", "lora", "dora", "rslora", "ia3"])
def test_a_whole_artifact_holds(make, tmp_path, method) -> None:
    make(tmp_path, method)
    assert "5 probe rows within" in verify(tmp_path)


def test_another_base_is_refused(make, tmp_path) -> None:
    make(tmp_path / "adapter")
    other = tiny_bert(tmp_path / "other")
    path = other / "model.safetensors"
    save_file({name: t + 0.01 for name, t in load_file(path).items()}, path, {"format": "pt"})
    with pytest.raises(GateError, match="name the right base"):
        verify(tmp_path / "adapter", base=str(other))


DOORS = {
    "verify": lambda folder, base: verify(folder, base=base),
    "load": lambda folder, base: load_artifact(folder, base),
    "Classifier": lambda folder, base: Classifier.load(folder, base, check_hashes=False),
    "compare, evaluate": lambda folder, base: load_contender(folder, base),
    "merge": lambda folder, base: publish_merged(folder, folder.with_name("merged"), base),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("harm", ["other weights", "an adapter beside them"])
def test_a_base_is_held_to_its_hash_before_it_is_loaded(
    harm, door, make, base, tmp_path, monkeypatch
) -> None:
    make(tmp_path / "adapter")
    other = Path(shutil.copytree(base, tmp_path / "other"))
    if harm == "other weights":
        path = other / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    else:
        (other / "adapter_config.json").write_text("{}")
    monkeypatch.setattr(adapters, "load_weights", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(GateError, match="name the right base"):
        DOORS[door](tmp_path / "adapter", str(other))


def test_a_base_of_another_commit_with_the_same_weights_will_do(
    make, base, tmp_path, monkeypatch
) -> None:
    """The commit that the adapter names is not to be had, and what is there has the hash."""
    make(tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    content = {**json.loads(config.read_text()), "base_model_name_or_path": "org/base"}
    config.write_text(json.dumps({**content, "revision": "0123456789" * 4}))
    cached = tmp_path / "hub" / "models--org--base"
    shutil.copytree(base, cached / "snapshots" / "abc123")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    restamp_files(tmp_path / "adapter")
    assert "5 probe rows within" in verify(tmp_path / "adapter")
    weights = cached / "snapshots" / "abc123" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UsageError, match="at the revision 0123456789"):
        verify(tmp_path / "adapter")


def test_no_token_travels_in_a_hallmark(make, tmp_path) -> None:
    """Nor in one that is made from an older one, which had it."""
    make(tmp_path / "a")
    made = json.loads((tmp_path / "a" / FILE).read_text())
    token = "hf_" + "aB3" * 11
    made["made_by"] = {"command": f"train.py --x {token}", "versions": {"a": token}}
    (tmp_path / "a" / FILE).write_text(json.dumps(made))
    make(tmp_path / "b")
    restamp(tmp_path / "b", tmp_path / "a", load_artifact(tmp_path / "b"))
    stored = (tmp_path / "b" / FILE).read_text()
    assert token not in stored and "train.py --x ***" in stored


def test_a_fresh_process_comes_to_the_same_answer(make, tmp_path) -> None:
    make(tmp_path)
    command = [sys.executable, "-m", "textassay.artifacts.hallmark", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "verified" in done.stdout
    flip_a_byte(tmp_path)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    with pytest.raises(GateError, match="does not hold in a fresh process: ") as refused:
        verify_in_fresh_process(tmp_path)
    assert "adapter_model.safetensors" in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_what_was_changed_answers_nobody_unless_told_not_to_look(make, tmp_path) -> None:
    make(tmp_path)
    predict = script("predict")
    assert predict(tmp_path, "--text", "a good film").exit_code == 0
    flip_a_byte(tmp_path)
    with pytest.raises(GateError, match=r"adapter_model\.safetensors was changed"):
        Classifier.load(tmp_path)
    assert Classifier.load(tmp_path, check_hashes=False).predict("a good film")["label"]
    refused = predict(tmp_path, "--text", "a good film")
    assert refused.exit_code == 3 and refused.stdout == ""
    assert "adapter_model.safetensors was changed" in " ".join(refused.stderr.split())


def test_the_command_takes_a_run_as_well_as_its_artifact(make, tmp_path) -> None:
    make(tmp_path / "run" / "model")
    (tmp_path / "run" / "config.yaml").write_text("fingerprint: something\n")
    for place in (tmp_path / "run", tmp_path / "run" / "model"):
        done = script("verify")(place)
        assert done.exit_code == 0 and "5 probe rows within" in done.stdout, done.output


def test_the_threads_of_the_process_do_not_matter(make, tmp_path) -> None:
    make(tmp_path)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        verify(tmp_path)
    finally:
        torch.set_num_threads(before)


def test_files_are_checked_without_loading_anything(make, tmp_path) -> None:
    make(tmp_path)
    hallmark = read_hallmark(tmp_path)
    check_files(tmp_path, hallmark)
    flip_a_byte(tmp_path)
    with pytest.raises(GateError):
        check_files(tmp_path, hallmark)
