"""Steps and epochs: few rows need more of them, and what does not fit them is said or refused."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainingArguments

from textassay.errors import UsageError
from textassay.training.arguments import keep_kernels_to_ourselves, settle_steps


def arguments_for(**given: Any) -> Any:
    """What `settle_steps` reads of TrainingArguments, without importing a device."""
    told = {"per_device_train_batch_size": 32, "gradient_accumulation_steps": 1, "world_size": 1,
            "max_steps": -1, "num_train_epochs": 3, "eval_strategy": "epoch", "eval_delay": 0,
            "dataloader_drop_last": False, "warmup_steps": 0.1, "lr_scheduler_type": "linear",
            **given}  # fmt: skip
    arguments = SimpleNamespace(**told)
    arguments.get_warmup_steps = lambda steps: TrainingArguments.get_warmup_steps(arguments, steps)
    return arguments


def test_what_torch_compiles_lies_where_nobody_else_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    monkeypatch.setenv("TEXTASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "chosen")
    keep_kernels_to_ourselves()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "chosen"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    keep_kernels_to_ourselves()
    assert cache_dir() == str(tmp_path / "cache" / "compiled")
    assert Path(cache_dir()).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("rows", "changes", "epochs"),
    [
        (720, {}, 9),  # 23 steps an epoch: 207
        (6_913, {}, 3),  # 217 steps an epoch
        (1, {}, 200),
        (720, {"per_device_train_batch_size": 16}, 5),  # 45 steps: 225
        (720, {"gradient_accumulation_steps": 2}, 17),  # 12 steps: 204
        (720, {"world_size": 2}, 17),
        (720, {"num_train_epochs": 30}, 30),
        (720, {"max_steps": 5}, 3),
    ],
)
def test_so_many_steps_are_taken_at_least(rows: int, changes: dict[str, int], epochs: int) -> None:
    arguments = arguments_for(**changes)
    settle_steps(arguments, 200, rows)
    assert arguments.num_train_epochs == epochs
    untouched = arguments_for(**changes)
    settle_steps(untouched, 0, rows)
    assert untouched.num_train_epochs == changes.get("num_train_epochs", 3)


@pytest.mark.parametrize(
    "given",
    [
        {"eval_delay": 3.5},
        {"eval_delay": 24, "eval_strategy": "steps"},  # 8 steps an epoch: 23
        {"eval_delay": 0.5, "max_steps": 3},
    ],
)
def test_an_evaluation_behind_the_end_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"training\.eval_delay: .* is behind the end"):
        settle_steps(arguments_for(num_train_epochs=2.875, **given), 0, 240)


@pytest.mark.parametrize("given", [{"eval_delay": 3}, {"eval_delay": 24, "eval_strategy": "steps"}])
def test_an_evaluation_at_the_end_is_possible(given: dict[str, Any]) -> None:
    assert settle_steps(arguments_for(**given), 0, 240) == []


@pytest.mark.parametrize(("warmup", "note"), [(500, True), (24, True), (23, False), (0.9, False)])
def test_a_warm_up_that_outlasts_the_training_is_said(warmup: float, note: bool) -> None:
    notes = settle_steps(arguments_for(warmup_steps=warmup), 0, 240)
    assert bool(notes) == note
    assert not notes or f"is {warmup} and the training has 24 steps" in notes[0]
    assert not settle_steps(arguments_for(warmup_steps=500, lr_scheduler_type="constant"), 0, 240)


def test_incomplete_batches_that_are_dropped_are_no_steps() -> None:
    arguments = arguments_for(dataloader_drop_last=True)
    settle_steps(arguments, 70, 240)
    assert arguments.num_train_epochs == 10
    with pytest.raises(UsageError, match="dataloader_drop_last: the 31 training rows are fewer"):
        settle_steps(arguments, 0, 31)
