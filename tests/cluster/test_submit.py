"""What is said to sbatch, as lists of words."""

from pathlib import Path

import pytest

from textassay.cluster.submit import array_line, shared_flags, split_arguments, submit, summary_line
from textassay.config.load import resolve_job
from textassay.config.runs import runs_of
from textassay.errors import TextassayError, UsageError
from textassay.files import project_root

COMMAND = ["mine.yaml", "--learning_rate=1e-3"]
SLURM = project_root() / "slurm"


@pytest.fixture
def runs():
    told = {"name": "mine", "seeds": "0,42,7", "resources.device": "cpu", "resources.time": "90"}
    return runs_of(resolve_job(None, None, {}, told, "lora")[0], Path("out"))


def test_the_array_counts_the_seeds_and_what_is_given_wins(runs) -> None:
    assert array_line(runs, ["--time=5", "-p", "short"], COMMAND) == [
        "sbatch", "--parsable", "--job-name=mine", "--array=0-2",
        "--output=out/mine/slurm-%A_%a.out",
        "--nodes=1", "--gpus-per-node=0", "--time=90", "--time=5", "-p", "short",
        f"{SLURM}/train.sbatch", "mine.yaml", "--learning_rate=1e-3",
    ]  # fmt: skip


def test_the_summary_waits_for_every_element_and_needs_no_gpu(runs) -> None:
    assert summary_line(runs, ["--time=5", "-p", "short", "--qos=low"], COMMAND, "17") == [
        "sbatch", "--parsable", "--job-name=mine-summary", "--dependency=afterany:17",
        "--output=out/mine/slurm-%j-summary.out", "-p", "short", "--qos=low",
        f"{SLURM}/summary.sbatch", "mine.yaml", "--learning_rate=1e-3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["--account=a", "--mem=3G"], ["--account=a"]),
        (["--account", "a", "--mem", "3G"], ["--account", "a"]),
        (["-Aa", "-c", "3", "-q", "low"], ["-Aa", "-q", "low"]),
        ([], []),
        (["--partition-of-mine=x", "--exclusive"], []),
        (["--array=0-2%1", "--partition"], ["--partition", ""]),
    ],
)
def test_who_pays_and_where_is_said_of_the_summary_too(given, kept) -> None:
    assert shared_flags(given) == kept


def test_flags_of_sbatch_stand_before_the_dashes_and_the_jobs_behind() -> None:
    assert split_arguments(["a.yaml", "--mem=3G", "--", "--seeds", "1"]) == (
        "a.yaml", ["--mem=3G"], ["--seeds", "1"],
    )  # fmt: skip
    assert split_arguments(["a.yaml"]) == ("a.yaml", [], [])
    for nothing in ([], ["--mem=3G", "a.yaml"]):
        with pytest.raises(UsageError, match=r"submit\.sh JOB\.yaml"):
            split_arguments(nothing)


def test_a_machine_without_slurm_says_so() -> None:
    with pytest.raises(UsageError, match="there is no sbatch here"):
        submit(["sbatch-that-is-not-here"])


def test_what_is_refused_is_passed_on() -> None:
    """Any program that says why and fails; the real sbatch is asked in tests/slurm."""
    with pytest.raises(TextassayError, match=r"sbatch refuses: .*nowhere.* The line was: ls "):
        submit(["ls", "/nowhere"])
