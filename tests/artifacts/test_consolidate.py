"""From a real ZeRO checkpoint to weights that transformers and PEFT load whole."""

import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from scripts.consolidate import main
from tests.models_for_tests import tiny_llama
from tests.zero_checkpoint_for_tests import make_checkpoint
from transformers import AutoModelForSequenceClassification

from textassay.artifacts.consolidate import parse_size
from textassay.artifacts.zero import open_checkpoint
from textassay.errors import UsageError

pytest.importorskip("deepspeed", reason="the extra deepspeed is not installed: no ZeRO checkpoint")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def full(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("full"), base, 3, 2, "bf16")


@pytest.fixture(scope="module", params=["lora", "dora"])
def adapter(
    base: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    method = request.param
    return make_checkpoint(tmp_path_factory.mktemp(method), base, 2, 2, "fp32", method)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["5GB", "20KB"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_is_loaded_whole(size: str, dtype: str, full: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [str(full), str(out), "--max-shard-size", size, "--dtype", dtype]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    shards = sorted(out.glob("*.safetensors"))
    assert (len(shards) > 3) == (size == "20KB")
    limit = parse_size(size)
    assert all(len(load_file(s)) == 1 or s.stat().st_size < limit + 4096 for s in shards)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        out, output_loading_info=True, dtype=dtype
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    state = model.state_dict()
    for name, tensor in open_checkpoint(full).tensors(10**9):
        assert torch.equal(state[name], tensor.to(getattr(torch, dtype))), name


@pytest.mark.slow
def test_an_adapter_is_what_peft_saved(adapter: Path, tmp_path: Path) -> None:
    arguments = [str(adapter), str(tmp_path / "out"), "--max_shard_size", "1KB"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    ours = load_file(tmp_path / "out" / "adapter_model.safetensors")
    theirs = load_file(adapter / "adapter_model.safetensors")  # the Trainer's, in fp32 as well
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (tmp_path / "out" / "adapter_config.json").is_file()


@pytest.mark.slow
def test_a_dry_run_says_what_is_there_and_writes_nothing(full: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, [str(full), str(tmp_path / "out"), "--dry_run"])
    assert done.exit_code == 0
    assert "ZeRO stage 3, 2 ranks" in done.output and "32,704 trained parameters" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_nothing_is_replaced_unasked(full: Path, tmp_path: Path) -> None:
    def call(target: Path, *flags: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, [str(full), str(target), *flags])
        return done.exit_code, done.output

    out, mine = tmp_path / "out", tmp_path / "mine"
    assert call(out)[0] == 0
    code, said = call(out)
    assert code == 2 and "is there already" in said
    assert call(out, "--force")[0] == 0 and (out / "model.safetensors").is_file()
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    for target, flags in ((mine, []), (full, []), (full.parent, []),
                          (tmp_path, ["--base_model_path", str(mine)])):  # fmt: skip
        code, said = call(target, "--force", *flags)
        assert code == 2 and ("is there already" in said or "would replace" in said), said
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_numbers_that_a_dtype_cannot_hold_are_no_infinities(full: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(full, tmp_path / full.name)
    file = next(broken.glob("global_step2/*rank_0_*optim_states.pt"))
    content = torch.load(file, weights_only=False)
    content["optimizer_state_dict"]["fp32_flat_groups"][0].data[0] = 1e6
    torch.save(content, file)
    done = CliRunner().invoke(main, [str(broken), str(tmp_path / "out"), "--dtype", "float16"])
    assert done.exit_code == 65 and "1e+06, which is too large" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "size"), [("5GB", 5 * 10**9), ("200mb", 2 * 10**8), ("1000", 1000), ("1.5K", 1500)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "five", "-1GB", "5TB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        parse_size(text)
