"""From a real ZeRO checkpoint to an artifact that transformers and PEFT load whole."""

import os
import shutil
import site
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from scripts.consolidate import main
from scripts.evaluate import main as evaluate
from tests.classifiers_for_tests import logits_of
from tests.commands_for_tests import paragraph
from tests.models_for_tests import TEXTS, tiny_bert, tiny_llama
from tests.zero_checkpoint_for_tests import Hostile, changed, make_checkpoint
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from textassay import console
from textassay.artifacts.hallmark import read_hallmark, verify
from textassay.artifacts.kinds import load_artifact
from textassay.artifacts.zero.checkpoint import open_checkpoint
from textassay.artifacts.zero.consolidate import parse_size
from textassay.errors import UsageError
from textassay.files import project_root, read_json

pytest.importorskip("deepspeed", reason="the extra deepspeed is not installed: no ZeRO checkpoint")
slow = pytest.mark.slow
USAGE, GATE, DATA = 2, 3, 65
PLAIN = "--no_hallmark"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def full(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_checkpoint(tmp_path_factory.mktemp("full"), base, 3, 2, "bf16")
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["lora", "dora"])
def adapter(
    base: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """An adapter's checkpoint as the Trainer leaves it: without config and tokenizer."""
    method = request.param
    return make_checkpoint(tmp_path_factory.mktemp(method), base, 2, 2, "fp32", method)


@pytest.fixture
def copied(full: Path, tmp_path: Path) -> Path:
    """A copy of the whole model's checkpoint to break."""
    return Path(shutil.copytree(full, tmp_path / full.name))


def call(*arguments: Any) -> Result:
    console.out.cache_clear()
    console.err.cache_clear()
    return CliRunner().invoke(main, [*map(str, arguments)])


def done(*arguments: Any) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


@slow
@pytest.mark.parametrize("size", ["5GB", "20KB"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_is_loaded_whole(size: str, dtype: str, full: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done(full, out, "--max-shard-size", size, "--dtype", dtype, PLAIN)
    shards = sorted(out.glob("*.safetensors"))
    assert (len(shards) > 3) == (size == "20KB")
    limit = parse_size(size)
    assert all(len(load_file(s)) == 1 or s.stat().st_size < limit + 4096 for s in shards)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        out, output_loading_info=True, dtype=dtype
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    state = model.state_dict()
    for name, tensor in open_checkpoint(full).tensors():
        assert torch.equal(state[name], tensor.to(getattr(torch, dtype))), name
    assert not (out / "hallmark.json").exists()


@slow
def test_an_adapter_is_what_peft_saved(adapter: Path, tmp_path: Path) -> None:
    done(adapter, tmp_path / "out", "--max_shard_size", "1KB", PLAIN)
    ours = load_file(tmp_path / "out" / "adapter_model.safetensors")
    theirs = load_file(adapter / "adapter_model.safetensors")  # the Trainer's, in fp32 as well
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert config.num_labels == 3, "the base counts two; the head has three rows"


@slow
def test_what_is_written_carries_a_hallmark_that_holds(full: Path, tmp_path: Path) -> None:
    said = done(full, tmp_path / "out")
    assert "4 probe rows, verified in a fresh process" in said
    assert "4 probe rows within" in verify(tmp_path / "out")
    stamped = read_hallmark(tmp_path / "out")
    assert stamped and stamped["kind"] == "model" and stamped["made_from"] is None
    record = read_json(tmp_path / "out" / "consolidation.json")
    assert record == {"checkpoint": "checkpoint-2/global_step2", "zero_stage": 3, "world_size": 2,
                      "dtype": "float32"}  # fmt: skip


@slow
@pytest.mark.usefixtures("verified_here")
def test_an_adapter_is_merged_into_its_base(adapter: Path, base: Path, tmp_path: Path) -> None:
    lone, merged = tmp_path / "adapter", tmp_path / "merged"
    done(adapter, lone)
    assert "of the adapter's" in done(adapter, merged, "--merge", "--base_model_path", base)
    tokenizer = AutoTokenizer.from_pretrained(merged)
    model = AutoModelForSequenceClassification.from_pretrained(merged).eval()
    loaded = load_artifact(lone)
    with torch.inference_mode():
        plain = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in TEXTS]
    assert torch.allclose(torch.stack(plain), torch.tensor(logits_of(loaded)), atol=1e-4)
    stamped = read_hallmark(merged)
    assert stamped and stamped["kind"] == "model" and stamped["made_from"].startswith("sha256:")


@slow
@pytest.mark.usefixtures("verified_here")
def test_a_bare_checkpoint_takes_its_config_from_the_base(
    copied: Path, base: Path, tmp_path: Path
) -> None:
    for path in copied.iterdir():
        if path.is_file() and path.name != "latest":
            path.unlink()
    refused = call(copied, tmp_path / "out")
    assert refused.exit_code == USAGE and "--base_model_path" in paragraph(refused.stderr)
    done(copied, tmp_path / "out", "--base_model_path", base)
    loaded = load_artifact(tmp_path / "out")
    assert loaded.labels.names == ("LABEL_0", "LABEL_1", "LABEL_2")
    lost = call(copied, tmp_path / "other", "--base_model_path", "nobody/nothing")
    assert lost.exit_code == USAGE and "cannot be had" in paragraph(lost.stderr)


@slow
def test_a_dry_run_says_what_is_there_and_writes_nothing(full: Path, tmp_path: Path) -> None:
    said = done(full, tmp_path / "out", "--dry_run")
    assert "ZeRO stage 3, 2 ranks" in said and "32,704 trained parameters" in said
    assert not (tmp_path / "out").exists()


@slow
def test_nothing_is_replaced_unasked(full: Path, tmp_path: Path) -> None:
    out, mine = tmp_path / "out", tmp_path / "mine"
    done(full, out, PLAIN)
    again = call(full, out, PLAIN)
    assert again.exit_code == USAGE and "is there already" in again.output
    done(full, out, PLAIN, "--force")
    assert (out / "model.safetensors").is_file()
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    for target, flags in ((mine, []), (full, []), (full.parent, []),
                          (tmp_path, ["--base_model_path", mine])):  # fmt: skip
        said = call(full, target, "--force", *flags)
        assert said.exit_code == USAGE, said.output
        assert "is there already" in said.output or "would replace" in said.output
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


def forget_a_rank(checkpoint: Path) -> None:
    next(checkpoint.glob("global_step2/*rank_1_*optim_states.pt")).unlink()


def cut_a_file(checkpoint: Path) -> None:
    file = next(checkpoint.glob("global_step2/*rank_1_*optim_states.pt"))
    os.truncate(file, file.stat().st_size - 2000)


def be_of_two_steps(checkpoint: Path) -> None:
    file = next(checkpoint.glob("global_step2/*rank_1_*model_states.pt"))
    with changed(file) as content:
        content["global_steps"] = 7


def be_hostile(checkpoint: Path) -> None:
    file = next(checkpoint.glob("global_step2/*rank_1_*model_states.pt"))
    with changed(file) as content:
        content["extra"] = Hostile(checkpoint.parent / "it ran")


def point_nowhere(checkpoint: Path) -> None:
    (checkpoint / "latest").write_text("global_step77")


def be_another_architecture(checkpoint: Path) -> None:
    bert = tiny_bert(checkpoint.parent / "bert")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bert / name, checkpoint / name)


def be_too_large(checkpoint: Path) -> None:
    file = next(checkpoint.glob("global_step2/*rank_0_*optim_states.pt"))
    with changed(file) as content:
        content["optimizer_state_dict"]["fp32_flat_groups"][0].data[0] = 1e6


def be_garbled(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text("{")


@slow
@pytest.mark.parametrize(
    ("spoil", "flags", "exit_code", "says"),
    [
        (forget_a_rank, [], DATA, "the files of rank 1 are missing"),
        (cut_a_file, [], DATA, "cannot be read; it may be cut off"),
        (be_of_two_steps, [], DATA, "and the files of other ranks are of step"),
        (be_hostile, [], DATA, "holds more than tensors and plain values"),
        (point_nowhere, [], DATA, "names global_step77, and there is no such directory"),
        (be_another_architecture, [], GATE, "the classification head is missing"),
        (be_too_large, ["--dtype", "float16"], DATA, "1e+06, which is too large"),
        (be_garbled, [], DATA, "no model config"),
        (None, ["--merge"], USAGE, "holds a whole model, not an adapter"),
        (None, ["--max_shard_size", "many"], USAGE, "is no size"),
    ],
)
def test_a_broken_checkpoint_is_refused_and_leaves_nothing(
    spoil: Callable[[Path], None] | None, flags: list[str], exit_code: int, says: str,
    copied: Path, tmp_path: Path,
) -> None:  # fmt: skip
    if spoil:
        spoil(copied)
    before = sorted(tmp_path.iterdir())
    refused = call(copied, tmp_path / "out", *flags)
    assert refused.exit_code == exit_code, refused.output
    assert says in paragraph(refused.stderr)
    assert sorted(tmp_path.iterdir()) == before


@slow
@pytest.mark.parametrize("options", ["size=16k", "ro,size=1m"])
def test_a_disk_that_cannot_take_it_is_said(options: str, full: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)])
    if made.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        refused = call(full, disk / "out", PLAIN)
        assert refused.exit_code == 1, refused.output
        assert "cannot be written" in paragraph(refused.stderr)
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@slow
def test_a_checkpoint_of_other_labels_than_the_rows_is_refused(full: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\na film,good\nb film,bad\nc film,good\n")
    console.err.cache_clear()
    arguments = [str(full), "--data_path", str(rows), "--output_dir", str(tmp_path / "out")]
    refused = CliRunner().invoke(evaluate, arguments)
    assert refused.exit_code == DATA, refused.output
    assert "the label 'good' is none that" in refused.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@slow
def test_an_environment_without_deepspeed_is_enough(full: Path, tmp_path: Path) -> None:
    """Every installed package but that one, in a folder of links."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for place in site.getsitepackages():
        for path in Path(place).iterdir():
            if not path.name.startswith("deepspeed") and path.suffix != ".pth":
                (packages / path.name).symlink_to(path)
    code = (
        "import importlib.util, sys, runpy; assert importlib.util.find_spec('deepspeed') is None; "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    script = project_root() / "scripts" / "consolidate.py"
    path = os.pathsep.join([str(packages), str(project_root() / "src")])
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code, str(script), str(full), str(tmp_path / "out"), PLAIN],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert load_file(tmp_path / "out" / "model.safetensors")


@pytest.mark.parametrize(
    ("text", "size"), [("5GB", 5 * 10**9), ("200mb", 2 * 10**8), ("1000", 1000), ("1.5K", 1500)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "five", "-1GB", "5TB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        parse_size(text)
