"""ZeRO checkpoints of real training, read without DeepSpeed and held against its own reading.

The whole matrix of stages, world sizes, dtypes and methods is not run yet; these are its corners.
"""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.models_for_tests import tiny_llama
from tests.zero_checkpoint_for_tests import make_checkpoint

from textassay.artifacts.zero import (
    _Stage,
    _stage_by_name,
    find_step_folder,
    open_checkpoint,
)
from textassay.errors import DataError, UsageError

pytest.importorskip("deepspeed", reason="the extra deepspeed is not installed: no ZeRO checkpoint")
CORNERS = [(3, 2, "bf16", "full"), (3, 3, "fp32", "lora"), (2, 3, "bf16", "lora"),
           (1, 2, "fp32", "full")]  # fmt: skip


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of stage 3, all weights, two ranks; not to be changed."""
    return make_checkpoint(tmp_path_factory.mktemp("whole"), base, 3, 2, "bf16")


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """A copy of it to break."""
    return Path(shutil.copytree(whole, tmp_path / whole.name))


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "ranks", "dtype", "method"), CORNERS)
def test_every_tensor_is_bit_for_bit_what_deepspeed_reads(
    stage: int, ranks: int, dtype: str, method: str, base: Path, tmp_path: Path
) -> None:
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    folder = make_checkpoint(tmp_path, base, stage, ranks, dtype, method)
    checkpoint = open_checkpoint(folder)
    assert (checkpoint.stage, checkpoint.world_size) == (stage, ranks)
    theirs = get_fp32_state_dict_from_zero_checkpoint(str(folder))
    for bytes_at_once in (1, 10**9):  # mapped anew for every tensor, and once for all
        ours = dict(checkpoint.tensors(bytes_at_once))
        assert ours.keys() | checkpoint.shared.keys() == theirs.keys()
        assert len(ours) >= 9
        for name, tensor in ours.items():
            assert torch.equal(tensor, theirs[name]), name


@pytest.mark.slow
def test_deepspeed_is_not_needed(whole: Path) -> None:
    code = (
        "import sys; sys.modules['deepspeed'] = None\n"
        "from pathlib import Path; from textassay.artifacts.zero import open_checkpoint\n"
        f"print(len(dict(open_checkpoint(Path({str(whole)!r})).tensors(10**9))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) == 21


@pytest.mark.slow
def test_any_folder_above_will_do(whole: Path) -> None:
    step = whole / "global_step2"
    assert find_step_folder(step) == find_step_folder(whole) == find_step_folder(whole.parent)
    assert find_step_folder(step) == step


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["optim", "model"])
def test_a_missing_rank_is_named(kind: str, copied: Path) -> None:
    next(copied.glob(f"global_step2/*rank_1_*{kind}_states.pt")).unlink()
    with pytest.raises(DataError, match=r"written by 2 ranks, .* rank 1 are missing"):
        open_checkpoint(copied)


@pytest.mark.slow
def test_a_file_that_was_cut_off_is_named(copied: Path) -> None:
    file = next(copied.glob("global_step2/*rank_1_*optim_states.pt"))
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(DataError, match=f"{file.name}: cannot be read; it may be cut off"):
        open_checkpoint(copied)


@pytest.mark.slow
def test_latest_that_points_nowhere_is_said(copied: Path) -> None:
    (copied / "latest").write_text("global_step77")
    with pytest.raises(DataError, match=r"latest: names global_step77, and there is no such"):
        open_checkpoint(copied)


@pytest.mark.slow
def test_a_file_of_another_model_is_noticed(copied: Path) -> None:
    file = next(copied.glob("global_step2/*rank_1_*optim_states.pt"))
    content = torch.load(file, weights_only=False)
    flats = content["optimizer_state_dict"]["fp32_flat_groups"]
    flats[0] = flats[0][:-8].clone()
    torch.save(content, file)
    with pytest.raises(DataError, match=r"rank 1 holds 16,344 elements .* want 16,352"):
        open_checkpoint(copied)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "key"),
    [("optim", "optimizer_state_dict"), ("optim", "zero_stage"), ("optim", "partition_count"),
     ("optim", "fp32_flat_groups"), ("model", "param_shapes")],
)  # fmt: skip
def test_a_file_without_what_belongs_there_is_named(kind: str, key: str, copied: Path) -> None:
    file = next(copied.glob(f"global_step2/*rank_0_*{kind}_states.pt"))
    content = torch.load(file, weights_only=False)
    for holder in (content, content.get("optimizer_state_dict", {})):
        holder.pop(key, None)
    torch.save(content, file)
    with pytest.raises(DataError, match=f"{file.name}: has no {key}"):
        open_checkpoint(copied)


@pytest.mark.slow
def test_odd_content_is_named(copied: Path) -> None:
    file = next(copied.glob("global_step2/*rank_0_*model_states.pt"))
    content = torch.load(file, weights_only=False)
    name = next(iter(content["param_shapes"][0]))
    content["param_shapes"][0][name] = torch.Size([4]), -1
    torch.save(content, file)
    with pytest.raises(DataError, match=f"the shape of {name} is"):
        open_checkpoint(copied)
    torch.save(torch.ones(3), file)
    with pytest.raises(DataError, match="but a Tensor"):
        open_checkpoint(copied)


@pytest.mark.slow
def test_a_model_that_was_cut_over_devices_is_refused(copied: Path) -> None:
    file = next(copied.glob("global_step2/*rank_1_*optim_states.pt"))
    file.rename(file.with_name(file.name.replace("mp_rank_00", "mp_rank_01")))
    with pytest.raises(DataError, match="tensor parallel"):
        open_checkpoint(copied)


class Hostile:
    """What runs code when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, (f"open({str(self.witness)!r}, 'w').close()",))


@pytest.mark.slow
def test_a_hostile_file_is_refused_and_nothing_in_it_runs(copied: Path, tmp_path: Path) -> None:
    witness = tmp_path / "it ran"
    pickle.loads(pickle.dumps(Hostile(witness)))  # the trap is a real one
    witness.unlink()
    file = next(copied.glob("global_step2/*rank_0_*optim_states.pt"))
    content = torch.load(file, weights_only=False)
    torch.save({**content, "extra": Hostile(witness)}, file)
    with pytest.raises(DataError, match="holds more than tensors and plain values"):
        open_checkpoint(copied)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("kind", "name"), [(str, "format"), (_Stage, "__reduce__"), (_Stage, "real")]
)
def test_getattr_reaches_nothing_but_a_stage(kind: type, name: str) -> None:
    """Python up to 3.11.2 or so pickles an enum's member as getattr(class, name)."""
    assert _stage_by_name(_Stage, "weights") == 3
    with pytest.raises(pickle.UnpicklingError):
        _stage_by_name(kind, name)


def test_a_folder_without_a_checkpoint_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no ZeRO checkpoint"):
        open_checkpoint(tmp_path)
    with pytest.raises(UsageError, match="no such directory"):
        open_checkpoint(tmp_path / "nowhere")
