"""The device is explicit: a GPU that was promised and cannot be used is an error."""

import pytest
import torch

from textassay.errors import UsageError
from textassay.models.device import find_device, find_precision, has_bf16

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
CPU = torch.device("cpu")


@needs_no_gpu
@pytest.mark.parametrize(
    ("variable", "value"),
    [("CUDA_VISIBLE_DEVICES", "0"), ("SLURM_JOB_GPUS", "1"), ("SLURM_GPUS_ON_NODE", "2")],
)
def test_an_allotted_gpu_that_is_not_there_is_an_error(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=f"{variable}={value}"):
        find_device("auto")
    assert find_device("cpu") == CPU


@needs_no_gpu
def test_cuda_without_a_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UsageError, match="cuda was asked for"):
        find_device("cuda")


@needs_no_gpu
@pytest.mark.parametrize("hidden", ["", "-1", "NoDevFiles", " none ", "void"])
def test_hidden_gpus_mean_the_cpu(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert find_device("auto") == CPU


def test_auto_precision_is_what_the_cpu_does_in_hardware() -> None:
    assert find_precision("auto", CPU) == ("bf16" if has_bf16(CPU) else "fp32")
    assert find_precision("fp32", CPU) == "fp32"


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        find_precision("fp16", CPU)
