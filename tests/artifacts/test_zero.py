"""ZeRO checkpoints of real training, read without DeepSpeed and held against its own reading.

The matrix: stages 1 to 3, world sizes 1 to 4, fp32 and bf16, all weights and LoRA; and beside it
what has gone wrong elsewhere: tied, frozen and odd parameters, and the other adapters.
"""

import functools
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tests.models_for_tests import tiny_bert, tiny_llama, tiny_qwen2
from tests.zero_checkpoint_for_tests import (
    ADAPTERS,
    Hostile,
    Training,
    changed,
    make_checkpoints,
)
from transformers import AutoModelForSequenceClassification

from textassay.artifacts.zero.checkpoint import open_checkpoint
from textassay.artifacts.zero.consolidate import consolidate, plan_consolidation, saved_tensors
from textassay.artifacts.zero.files import (
    _Stage,
    _stage_by_name,
    deepspeed_loads_weights_only,
    find_step_folder,
)
from textassay.errors import DataError, UsageError
from textassay.models.bottleneck import register

zero_to_fp32 = pytest.importorskip(
    "deepspeed.utils.zero_to_fp32",
    reason="the extra deepspeed is not installed: no ZeRO checkpoint",
)


class Case(NamedTuple):
    """A checkpoint of the matrix."""

    ranks: int
    stage: int
    dtype: str
    method: str


SQUARE = [Case(ranks, stage, dtype, method)
          for ranks in (1, 2, 3, 4) for stage in (1, 2, 3)
          for dtype in ("fp32", "bf16") for method in ("full", "lora")]  # fmt: skip
ODD = [
    *(Case(2, stage, "bf16", "frozen") for stage in (1, 2, 3)),
    *(Case(2, 3, "bf16", method) for method in ("scalar", "causal", "dora", "bottleneck")),
    *(Case(3, stage, "fp32", method) for stage in (2, 3)
      for method in ("frozen", "scalar", "causal", "dora", "bottleneck", "lora_with_base")),
    *(Case(3, 1, "fp32", method) for method in ("scalar", "causal", "lora_with_base")),
    *(Case(4, stage, "bf16", "scalar") for stage in (2, 3)),
]  # fmt: skip
MATRIX = sorted(SQUARE + ODD)
ONE_OF_EACH_METHOD = [case for case in MATRIX if case[:3] == (3, 3, "fp32")]
OF_ADAPTERS = [case for case in MATRIX if case.method in ADAPTERS and case.dtype == "fp32"]
TWO_STEPS = [Case(ranks, stage, "bf16", "full") for ranks in (2, 3) for stage in (1, 2, 3)]
WHOLE = Case(2, 3, "bf16", "full")


def names_of(cases: list[Case]) -> list[object]:
    """The cases with names for pytest."""
    return [pytest.param(case, id=f"{case.method}-{case.dtype}-stage{case.stage}-of{case.ranks}")
            for case in cases]  # fmt: skip


Trained = Callable[[Case], Path]


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Base models by method; a third of their tensors cannot be cut into 3 or 4 equal parts."""
    folder = tmp_path_factory.mktemp("bases")
    llama = tiny_llama(folder / "llama", width=28)
    bert, qwen2 = tiny_bert(folder / "bert", width=26), tiny_qwen2(folder / "qwen2", width=28)
    return {case.method: llama for case in MATRIX} | {"scalar": bert, "causal": qwen2}


@pytest.fixture(scope="session")
def trained(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """trained(case): its checkpoint, not to be changed. One start of the ranks makes all theirs."""

    @functools.cache
    def all_of(ranks: int) -> dict[Case, Path]:
        folder = tmp_path_factory.mktemp(f"ranks{ranks}")
        trainings = {
            case: Training(
                str(folder / "-".join(map(str, case))), str(bases[case.method]), case.stage,
                case.dtype, case.method, save_steps=1 if case in TWO_STEPS else 2,
            )
            for case in MATRIX if case.ranks == ranks
        }  # fmt: skip
        make_checkpoints(ranks, list(trainings.values()))
        return {case: training.checkpoint for case, training in trainings.items()}

    return lambda case: all_of(case.ranks)[case]


@pytest.fixture(scope="session")
def whole(trained: Trained) -> Path:
    """A checkpoint of stage 3, all weights, two ranks; not to be changed."""
    return trained(WHOLE)


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """A copy of it to break."""
    return Path(shutil.copytree(whole, tmp_path / whole.name))


@pytest.mark.slow
@pytest.mark.parametrize("case", names_of(MATRIX))
def test_every_tensor_is_bit_for_bit_what_deepspeed_reads(case: Case, trained: Trained) -> None:
    checkpoint = open_checkpoint(trained(case))
    assert (checkpoint.stage, checkpoint.world_size) == (case.stage, case.ranks)
    theirs = zero_to_fp32.get_fp32_state_dict_from_zero_checkpoint(str(trained(case)))
    ours = dict(checkpoint.tensors())
    # In stage 1 frozen parameters stand in no list, and DeepSpeed's reader forgets them.
    forgotten = checkpoint.frozen.keys() if case.stage == 1 else set()
    assert ours.keys() | checkpoint.shared.keys() == theirs.keys() | forgotten
    assert len(ours) >= 9
    for name in ours.keys() - forgotten:
        assert torch.equal(ours[name], theirs[name]), name
        assert ours[name].dtype == theirs[name].dtype, name
    for tied, holder in checkpoint.shared.items():
        assert torch.equal(theirs[tied], ours[holder])
    small = torch.empty(40, dtype=torch.uint8)  # ten numbers at a time
    for tensor in checkpoint.stored():
        parts = torch.cat([part.clone() for part in tensor.parts(small)])
        assert torch.equal(parts.view(tensor.shape), ours[tensor.name]), tensor.name


def test_the_matrix_holds_what_it_says() -> None:
    assert len(SQUARE) == 48 and len(set(MATRIX)) == len(MATRIX) == 48 + 24
    assert len(ONE_OF_EACH_METHOD) == 8 and len(OF_ADAPTERS) == 19


@pytest.mark.slow
@pytest.mark.parametrize("case", names_of([case for case in MATRIX if case.method == "frozen"]))
def test_frozen_parameters_are_those_of_the_base(
    case: Case, trained: Trained, bases: dict[str, Path]
) -> None:
    checkpoint = open_checkpoint(trained(case))
    base = load_file(bases["frozen"] / "model.safetensors")
    ours = dict(checkpoint.tensors())
    assert len(checkpoint.frozen) == 10 and len(ours) == 21
    dtype = torch.bfloat16 if case.dtype == "bf16" else torch.float32
    for name in checkpoint.frozen:
        assert torch.equal(ours[name], base[name].to(dtype)), name


@pytest.mark.slow
@pytest.mark.parametrize("case", names_of([case for case in MATRIX if case.method == "scalar"]))
def test_odd_and_single_elements_are_there(case: Case, trained: Trained) -> None:
    placed = {one.name: one for one in open_checkpoint(trained(case)).trained}
    assert placed["scale"].shape == (1,)
    uneven = [one for one in placed.values() if one.numel % case.ranks]
    assert len(uneven) > (1 if case.ranks == 2 else 10)


@pytest.mark.slow
@pytest.mark.parametrize("case", names_of(ONE_OF_EACH_METHOD))
def test_the_file_is_what_deepspeeds_converter_writes(
    case: Case, trained: Trained, tmp_path: Path
) -> None:
    plan = plan_consolidation(open_checkpoint(trained(case)), None)
    (shard,) = consolidate(plan, tmp_path / "ours", torch.float32, 10**9)
    ours = load_file(shard)
    source = {name: tensor.name for name, tensor in saved_tensors(plan)}
    assert ours.keys() == source.keys()
    convert = zero_to_fp32.convert_zero_checkpoint_to_fp32_state_dict
    if plan.checkpoint.shared:
        with pytest.raises(RuntimeError, match="share memory"):  # which ours writes once
            convert(str(trained(case)), str(tmp_path / "theirs"), safe_serialization=True)
        convert(str(trained(case)), str(tmp_path / "theirs"))
        theirs = torch.load(tmp_path / "theirs" / "pytorch_model.bin")
    else:
        convert(str(trained(case)), str(tmp_path / "theirs"), safe_serialization=True)
        theirs = load_file(tmp_path / "theirs" / "model.safetensors")
    of_the_base = plan.checkpoint.frozen if plan.is_adapter else {}
    assert theirs.keys() == {*source.values(), *of_the_base, *plan.checkpoint.shared}
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[source[name]]), name


@pytest.mark.slow
@pytest.mark.parametrize("case", names_of(OF_ADAPTERS))
def test_an_adapter_is_what_peft_loads_and_saves(
    case: Case, trained: Trained, bases: dict[str, Path], tmp_path: Path
) -> None:
    plan = plan_consolidation(open_checkpoint(trained(case)), None)
    (shard,) = consolidate(plan, tmp_path / "ours", torch.float32, 10**9)
    ours = load_file(shard)
    register()
    base = AutoModelForSequenceClassification.from_pretrained(bases[case.method], num_labels=3)
    PeftModel.from_pretrained(base, tmp_path / "ours").save_pretrained(tmp_path / "again")
    # A tensor that PEFT had missed would have other numbers, one that it did not want no name.
    again = load_file(tmp_path / "again" / "adapter_model.safetensors")
    assert ours.keys() == again.keys()
    assert all(torch.equal(ours[name], again[name]) for name in ours)
    assert all(tensor.any() for tensor in ours.values())  # lora_B begins as zero
    if case.stage < 3:  # in stage 3 what the Trainer saves is empty
        theirs = load_file(trained(case) / "adapter_model.safetensors")
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize("case", names_of(TWO_STEPS))
def test_an_optimizer_file_of_another_step_is_named(
    case: Case, trained: Trained, tmp_path: Path
) -> None:
    whole = trained(case)
    copied = shutil.copytree(whole, tmp_path / whole.name)
    file = next(copied.glob("global_step2/*rank_1_*optim_states.pt"))
    shutil.copyfile(whole.with_name("checkpoint-1") / "global_step1" / file.name, file)
    with pytest.raises(DataError, match=rf"{file.name}: is of step 1, .* are of step 2; two"):
        open_checkpoint(copied)


@pytest.mark.slow
def test_a_model_file_of_another_step_is_named(trained: Trained, tmp_path: Path) -> None:
    whole = trained(Case(3, 3, "bf16", "full"))
    copied = shutil.copytree(whole, tmp_path / whole.name)
    file = next(copied.glob("global_step2/*rank_1_*model_states.pt"))
    shutil.copyfile(whole.with_name("checkpoint-1") / "global_step1" / file.name, file)
    with pytest.raises(DataError, match=rf"{file.name}: is of step 1, .* are of step 2; two"):
        open_checkpoint(copied)


@pytest.mark.slow
def test_steps_are_compared_where_they_are_counted(copied: Path) -> None:
    """DeepSpeed's own Adam keeps one number beside the settings; plain SGD keeps none."""
    files = sorted(copied.glob("global_step2/*optim_states.pt"))
    contents = [torch.load(file, weights_only=False) for file in files]
    for content, file, step in zip(contents, files, (2, 3), strict=True):
        optimizer = content["optimizer_state_dict"]["optimizer_state_dict"]
        for state in optimizer["state"].values():
            del state["step"]
        torch.save(content, file)
        optimizer["param_groups"][0]["step"] = step
    assert len(dict(open_checkpoint(copied).tensors())) == 21
    for content, file in zip(contents, files, strict=True):
        torch.save(content, file)
    with pytest.raises(DataError, match=rf"{files[1].name}: is of step 3, .* of step 2"):
        open_checkpoint(copied)


@pytest.mark.slow
def test_a_tensor_that_does_not_lie_row_by_row_is_read_all_the_same(copied: Path) -> None:
    file = next(copied.glob("global_step2/*rank_0_*model_states.pt"))
    with changed(file) as content:
        odd = {"turned": torch.randn(4, 6).half().T, "strided": torch.arange(40)[3:30:3]}
        content["module"] |= odd
        content["buffer_names"] = [*odd, "is in no file"]
    found = {tensor.name: tensor for tensor in open_checkpoint(copied).stored()}
    for name, tensor in odd.items():
        wanted = tensor.float() if name == "turned" else tensor
        assert torch.equal(found[name].whole(), wanted), name
        parts = torch.cat(list(found[name].parts(torch.empty(8, dtype=torch.uint8))))
        assert torch.equal(parts.view(tensor.shape), wanted), name


@pytest.mark.slow
def test_deepspeed_is_not_needed(whole: Path) -> None:
    code = (
        "import sys; sys.modules['deepspeed'] = None\n"
        "from pathlib import Path\n"
        "from textassay.artifacts.zero.checkpoint import open_checkpoint\n"
        f"print(len(dict(open_checkpoint(Path({str(whole)!r})).tensors())))"
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
def test_broken_bytes_are_refused_or_do_no_harm(copied: Path) -> None:
    """Some stand where the numbers are, or in a name that nobody asks for."""
    file = next(copied.glob("global_step2/*rank_0_*optim_states.pt"))
    content = file.read_bytes()
    refused = 0
    for start in range(0, 4000, 40):  # the pickle stands first
        file.write_bytes(content[:start] + b"\xff\x71" + content[start + 2 :])
        try:
            open_checkpoint(copied)
        except DataError as error:
            assert str(copied) in str(error)
            refused += 1
    assert refused > 20


@pytest.mark.slow
def test_latest_that_points_nowhere_is_said(copied: Path) -> None:
    (copied / "latest").write_text("global_step77")
    with pytest.raises(DataError, match=r"latest: names global_step77, and there is no such"):
        open_checkpoint(copied)


@pytest.mark.slow
def test_a_file_of_another_model_is_noticed(copied: Path) -> None:
    file = next(copied.glob("global_step2/*rank_1_*optim_states.pt"))
    with changed(file) as content:
        flats = content["optimizer_state_dict"]["fp32_flat_groups"]
        flats[0] = flats[0][:-8].clone()
    with pytest.raises(DataError, match=r"rank 1 holds 13,180 elements .* want 13,188"):
        open_checkpoint(copied)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "key"),
    [("optim", "optimizer_state_dict"), ("optim", "zero_stage"), ("optim", "partition_count"),
     ("optim", "fp32_flat_groups"), ("model", "param_shapes")],
)  # fmt: skip
def test_a_file_without_what_belongs_there_is_named(kind: str, key: str, copied: Path) -> None:
    file = next(copied.glob(f"global_step2/*rank_0_*{kind}_states.pt"))
    with changed(file) as content:
        for holder in (content, content.get("optimizer_state_dict", {})):
            holder.pop(key, None)
    with pytest.raises(DataError, match=f"{file.name}: has no {key}"):
        open_checkpoint(copied)


@pytest.mark.slow
def test_odd_content_is_named(copied: Path) -> None:
    file = next(copied.glob("global_step2/*rank_0_*model_states.pt"))
    with changed(file) as content:
        name = next(iter(content["param_shapes"][0]))
        content["param_shapes"][0][name] = torch.Size([4]), -1
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


@pytest.mark.slow
def test_a_hostile_file_is_refused_and_nothing_in_it_runs(copied: Path, tmp_path: Path) -> None:
    witness = tmp_path / "it ran"
    pickle.loads(pickle.dumps(Hostile(witness)))  # the trap is a real one
    witness.unlink()
    file = next(copied.glob("global_step2/*rank_0_*optim_states.pt"))
    with changed(file) as content:
        content["extra"] = Hostile(witness)
    with pytest.raises(DataError, match="holds more than tensors and plain values"):
        open_checkpoint(copied)
    assert not witness.exists()


@pytest.mark.slow
@pytest.mark.parametrize("at", ["before what is read", "where a stage stands"])
def test_deepspeed_unpickles_nothing_that_runs(at: str, copied: Path, tmp_path: Path) -> None:
    """Its engine asks torch for everything, in whatever folder it looks."""
    witness = tmp_path / "it ran"
    for kind in ("optim", "model"):
        file = next(copied.glob(f"global_step2/*rank_0_*{kind}_states.pt"))
        with deepspeed_loads_weights_only():
            ours = torch.load(file, map_location="cpu", weights_only=False)
        theirs = torch.load(file, map_location="cpu", weights_only=False)
        assert ours.keys() == theirs.keys() and [*map(type, ours.values())] == [
            type(value) for value in theirs.values()
        ]
        with changed(file) as content:
            content["extra" if at.startswith("before") else "zero_stage"] = Hostile(witness)
        with deepspeed_loads_weights_only(), pytest.raises(pickle.UnpicklingError):
            torch.load(file, map_location="cpu", weights_only=False)
        assert not witness.exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


@pytest.mark.slow
@pytest.mark.parametrize("named", ["../other/global_step2", "/etc", "..", "linked"])
def test_latest_names_nothing_but_a_folder_beside_it(named: str, copied: Path) -> None:
    shutil.copytree(copied, copied.parent / "other")
    (copied / "linked").symlink_to(copied.parent / "other" / "global_step2")
    (copied / "latest").write_text(named)
    with pytest.raises(DataError, match="which is no folder beside it"):
        open_checkpoint(copied)


@pytest.mark.slow
def test_two_files_of_one_rank_are_refused(copied: Path) -> None:
    file = next(copied.glob("global_step2/*rank_0_*optim_states.pt"))
    shutil.copyfile(file, file.with_name(f"bf16_{file.name}"))
    with pytest.raises(DataError, match="holds two files of rank 0"):
        open_checkpoint(copied)


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
