"""What is missing on a node is named, in the words that say what to do."""

import pytest

from textassay.cluster.needs import refuse_what_is_missing
from textassay.config.load import resolve_job
from textassay.errors import UsageError
from textassay.training.extras import PACKAGES

HERE = {"data.name": "sentiment5_en", "resources.device": "cpu"}


@pytest.fixture(autouse=True)
def offline(monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("TEXTASSAY_DATA_DIR", raising=False)


def check(launcher="lora", nodes=1, **told):
    job, _ = resolve_job(None, None, {}, {**HERE, **told}, launcher)
    refuse_what_is_missing(job, nodes)


def test_nothing_is_missing_for_the_samples_and_the_packaged_model() -> None:
    check()


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"resources.device": "cuda"}, "cuda was asked for, but"),
        ({"model.model_name_or_path": "nobody/nothing"}, "nobody/nothing cannot be had"),
        ({"data.name": "r8"}, "dxgp/R8: .* Name a directory with --data_path"),
        ({"data.path": "nowhere.csv"}, "nowhere.csv: there is no such file"),
        ({"data.train_file": "nowhere.csv"}, "nowhere.csv"),
    ],
)
def test_what_is_missing_is_an_error_of_usage(told, said, monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match=said):
        check(**told)


def test_a_gpu_that_slurm_gave_must_be_usable(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "2")
    with pytest.raises(UsageError, match=r"Slurm allotted a GPU \(SLURM_GPUS_ON_NODE=2\)"):
        check(**{"resources.device": "auto"})
    check()  # the CPU may be asked for


def test_nodes_that_would_be_idle_are_refused() -> None:
    with pytest.raises(UsageError, match="is one process on one node, and this is 2 nodes"):
        check(nodes=2)
    check("deepspeed", nodes=2)


def test_a_package_that_is_not_installed_is_named_with_the_command(monkeypatch) -> None:
    monkeypatch.setitem(PACKAGES, "deepspeed", "deepspeed_that_is_not_here")
    with pytest.raises(UsageError, match=r"pip install -c .*/constraints\.txt -e .*\[deepspeed\]"):
        check("deepspeed")
    check()
