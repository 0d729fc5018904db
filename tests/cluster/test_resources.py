"""A job's resources as flags of sbatch, and what Slurm would not understand."""

import re

import pytest
import yaml

from textassay.cluster.resources import sbatch_flags
from textassay.config.load import resolve_job
from textassay.errors import UsageError


def job(launcher="lora", **resources):
    given = {f"resources.{key}": value for key, value in resources.items()}
    return resolve_job(None, None, {}, given, launcher)[0]


def test_a_job_that_says_nothing_leaves_all_but_the_nodes_to_the_sbatch_file() -> None:
    assert sbatch_flags(job()) == ["--nodes=1"]


def test_every_resource_is_a_flag() -> None:
    told = job(
        "deepspeed", nodes="2", gpus_per_node="8", cpus_per_task="16", mem="64G", time="1-12"
    )
    assert sbatch_flags(told) == [
        "--nodes=2", "--gpus-per-node=8", "--cpus-per-task=16", "--mem=64G", "--time=1-12",
    ]  # fmt: skip


def test_a_job_for_the_cpu_takes_no_gpus_unless_it_says_so() -> None:
    assert "--gpus-per-node=0" in sbatch_flags(job(device="cpu"))
    assert "--gpus-per-node=1" in sbatch_flags(job(device="cpu", gpus_per_node="1"))


@pytest.mark.parametrize("launcher", ["lora", "full"])
def test_more_nodes_than_a_launcher_can_use_are_refused(launcher) -> None:
    with pytest.raises(UsageError, match=f"the launcher {launcher} is one process on one node"):
        sbatch_flags(job(launcher, nodes="2"))


@pytest.mark.parametrize("time", ["30", "90:00", "4:00:00", "1-12", "1-12:30", "1-12:30:00"])
def test_every_form_that_slurm_has_for_a_time_is_taken(time) -> None:
    assert sbatch_flags(job(time=time))[-1] == f"--time={time}"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("time: 14400", "in quotes in a job file"),
        ("time: tomorrow", "in quotes in a job file"),
        ("mem: 64", "resources.mem"),
        ('mem: "64"', "resources.mem"),
        ("nodes: 0", "resources.nodes"),
        ("gpus_per_node: -1", "resources.gpus_per_node"),
    ],
)
def test_what_slurm_would_take_otherwise_is_refused(write, written, said) -> None:
    assert yaml.safe_load(written)
    path = write("jobs/mine.yaml", f"resources:\n  {written}\n")
    with pytest.raises(UsageError, match=re.escape(said)):
        resolve_job(path, None, {}, {}, "lora")
