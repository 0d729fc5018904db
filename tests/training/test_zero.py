"""DeepSpeed's configuration out of a job, and what is said where DeepSpeed cannot be used."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from textassay.config.load import resolve_job
from textassay.config.schema import DeepspeedSection, Job
from textassay.errors import UsageError
from textassay.training import extras, ranks
from textassay.training.launch import count_processes
from textassay.training.trainer import _own_numbers
from textassay.training.zero import deepspeed_config

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_configuration_says_what_the_job_says(stage: int) -> None:
    section = DeepspeedSection(zero_stage=stage, offload_optimizer=True)
    config = deepspeed_config(section, CPU)
    zero = config["zero_optimization"]
    assert zero["stage"] == stage
    assert zero["offload_optimizer"] == {"device": "cpu", "pin_memory": False}
    assert "offload_param" not in zero
    assert ("stage3_gather_16bit_weights_on_model_save" in zero) == (stage == 3)
    for key in ("train_batch_size", "train_micro_batch_size_per_gpu",
                "gradient_accumulation_steps"):  # fmt: skip
        assert config[key] == "auto"
    assert config["zero_force_ds_cpu_optimizer"] is False


def test_a_gpu_pins_what_it_offloads() -> None:
    section = DeepspeedSection(offload_optimizer=True, offload_param=True)
    zero = deepspeed_config(section, GPU)["zero_optimization"]
    assert zero["offload_param"] == {"device": "cpu", "pin_memory": True} and zero["overlap_comm"]


def test_a_file_replaces_it_and_gets_its_batch_filled_in(tmp_path: Path) -> None:
    given = tmp_path / "ds.json"
    given.write_text('{"zero_optimization": {"stage": 2}, "train_batch_size": 64}')
    config = deepspeed_config(DeepspeedSection(config_file=str(given)), CPU)
    assert config["zero_optimization"] == {"stage": 2}
    assert config["train_batch_size"] == 64
    assert config["train_micro_batch_size_per_gpu"] == "auto"


@pytest.mark.parametrize(
    ("content", "says"), [("{", "is not JSON"), ("[1]", "holds no DeepSpeed configuration")]
)
def test_a_file_that_is_none_is_refused(content: str, says: str, tmp_path: Path) -> None:
    given = tmp_path / "ds.json"
    given.write_text(content)
    with pytest.raises(UsageError, match=says):
        deepspeed_config(DeepspeedSection(config_file=str(given)), CPU)
    with pytest.raises(UsageError, match="no such file"):
        deepspeed_config(DeepspeedSection(config_file=str(tmp_path / "none.json")), CPU)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"deepspeed.zero_stage": "4"}, "less than or equal to 3"),
        ({"deepspeed.offload_param": "true", "deepspeed.zero_stage": "2"}, "goes with zero_stage"),
        ({"model.load_in_4bit": "true"}, "does not go with the deepspeed launcher"),
        ({"training.deepspeed": "x.json"}, "deepspeed.config_file"),
        ({"training.num_train_epochs": "0", "model.head": "label_scoring"}, "launcher trains"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(settings: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        resolve_job(None, None, {}, settings, "deepspeed")


def test_without_deepspeed_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"not installed; install the extra: .*\[deepspeed\]"):
        ranks.prepare_rank("cpu")
    job = Job.model_validate({"launcher": "deepspeed", "method": {"name": "full"}})
    monkeypatch.setattr(sys, "prefix", "/somewhere/else")
    with pytest.raises(UsageError, match=r"need the extra deepspeed, .* -e '.*\[deepspeed\]'"):
        extras.provide_extras([job])
    extras.provide_extras([Job()])


def test_other_launchers_are_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="lora is one process, and 2 were started"):
        ranks.refuse_lonely_launcher("lora")
    ranks.refuse_lonely_launcher("deepspeed")


def test_a_cpu_gets_two_processes_unless_told() -> None:
    assert count_processes("cpu") == 2
    assert count_processes("3") == 3


def test_the_fingerprint_of_other_launchers_does_not_know_deepspeed(tmp_path: Path) -> None:
    from textassay.config.identity import input_files
    from textassay.config.runs import Run

    def fingerprint(launcher: str, **deepspeed: object) -> str:
        job = Job.model_validate(
            {"launcher": launcher, "method": {"name": "full"}, "deepspeed": deepspeed}
        )
        return Run(job, 0, tmp_path).fingerprint(input_files(job))

    assert fingerprint("full") == fingerprint("full", zero_stage=2)
    assert fingerprint("deepspeed") != fingerprint("deepspeed", zero_stage=2)
    given = tmp_path / "ds.json"
    given.write_text("{}")
    before = fingerprint("deepspeed", config_file=str(given))
    given.write_text('{"a": 1}')
    assert fingerprint("deepspeed", config_file=str(given)) != before


class _Cut(torch.nn.Parameter):
    """A weight as ZeRO's stage 3 leaves it: a piece, here the last one, and the size of all."""

    ds_numel = 5


def test_what_pads_the_last_piece_of_a_weight_is_not_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is memory that nothing has filled, and may look like a number that is none."""
    weight = _Cut(torch.empty(0))
    weight.ds_tensor = torch.tensor([1.0, 2.0, float("nan")])
    monkeypatch.setenv("RANK", "1")
    assert _own_numbers(weight).tolist() == [1.0, 2.0]
    monkeypatch.setenv("RANK", "0")
    assert not _own_numbers(weight).isfinite().all()
    monkeypatch.setenv("RANK", "2")
    assert _own_numbers(weight).numel() == 0
    whole = torch.nn.Parameter(torch.ones(3))
    assert _own_numbers(whole) is whole
