"""Jobs that are stopped, cancelled or lose their node: nothing counts that is not whole, and what
goes on ends as the job that nobody disturbed.

All of them train the same seed of the same small job, at the same time, each into a folder of its
own.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from tests.models_for_tests import tiny_bert
from tests.slurm.cluster import Cluster, until
from tests.training.killing import trained_weights

from textassay.data.read import read_file
from textassay.files import project_root, read_json
from textassay.training.checkpoints import is_complete, list_checkpoints, step_of

pytestmark = [pytest.mark.slow, pytest.mark.slurm]
SAVE_STEPS = 25
STEPS = 20 * SAVE_STEPS
# A step that has no ear for the signal, in its first attempt; its time limit is near.
DEAF = """
import os, signal, time
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
open("deaf.began", "w").close()
time.sleep(0 if "SLURM_RESTART_COUNT" in os.environ else 600)
"""
DEAF_JOB = """#!/usr/bin/env bash
set -Eeuo pipefail
source slurm/common.sh
begin "$PWD"
export PYTHONPATH=$PWD # where deaf.py is; the current folder is not looked into
carry_out 1 deaf
"""
# As docs/cluster.md tells it.
STOP = "scancel --batch --signal=USR1"


@dataclass
class Story:
    """The jobs by name; each has a folder, a log and an id."""

    folder: Path
    ids: dict[str, str]
    steps: dict[str, int]
    states: dict[str, str] = field(default_factory=dict)

    def run(self, name: str) -> Path:
        """The directory of the job's only run."""
        return self.folder / name / "tiny" / "seed-0"

    def log(self, name: str) -> str:
        """What the job printed, in all its attempts."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def story(cluster: Cluster, clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """One job is left alone, one is stopped, one cancelled, one loses its node, one is deaf."""
    base = tmp_path_factory.mktemp("tiny")
    rows = read_file(project_root() / "data" / "samples" / "sentiment5_en.csv")
    tiny_bert(base, rows.columns["text"].to_pylist(), 128, width=64)
    (clone / "tiny.yaml").write_text(yaml.safe_dump(_job(base)), encoding="utf-8")
    told = Story(clone, {}, {})
    for name, node in {"alone": "n1", "stopped": "n1", "cancelled": "n1", "bereft": "n2"}.items():
        told.ids[name] = _submit(cluster, clone, name, node)
    (clone / "deaf.py").write_text(DEAF, encoding="utf-8")
    (clone / "deaf.sbatch").write_text(DEAF_JOB, encoding="utf-8")
    told.ids["deaf"] = cluster.submit(
        clone,
        "--nodelist=n1 --mem=1G --time=1 --requeue --open-mode=append --output=deaf.log "
        "deaf.sbatch",
    )
    until((clone / "deaf.began").exists, "the deaf step")
    cluster.shell(clone, f"{STOP} {told.ids['deaf']}")
    interruptions: dict[str, Callable[[str], object]] = {
        "stopped": lambda job: cluster.shell(clone, f"{STOP} {job}"),
        "cancelled": lambda job: cluster.shell(clone, f"scancel {job}"),
        "bereft": lambda job: cluster.kill_node("n2", job),
    }
    waiting = set(interruptions)

    def interrupted() -> bool:
        for name in list(waiting):
            newest = _newest_step(told.run(name))
            if newest:
                interruptions[name](told.ids[name])
                told.steps[name] = newest
                waiting.remove(name)
        return not waiting

    until(interrupted, "the first checkpoints")
    until(lambda: cluster.fact(told.ids["bereft"], "JobState") == "PENDING", "the node's loss")
    # Slurm goes on telling a dead node to end the step. Were the job to come back there at once,
    # its new step would have the old one's name.
    cluster.shell(clone, f"scontrol update JobId={told.ids['bereft']} ReqNodeList=n1")
    cluster.start_node("n2")
    told.states = {name: cluster.wait_for(job) for name, job in told.ids.items()}
    return told


@pytest.fixture(scope="module")
def preempted(story: Story, cluster: Cluster) -> Story:
    """One more of their kind, when they are over, which has to make room for an urgent job."""
    job = story.ids["preempted"] = _submit(cluster, story.folder, "preempted", "n1")
    until(lambda: _newest_step(story.run("preempted")) > 0, "the first checkpoint")
    story.steps["preempted"] = _newest_step(story.run("preempted"))
    urgent = cluster.submit(
        story.folder, "--partition=urgent --nodelist=n1 --exclusive --output=urgent.log "
        "--wrap=true",
    )  # fmt: skip
    assert cluster.wait_for(urgent) == "COMPLETED"
    story.states["preempted"] = cluster.wait_for(job)
    return story


def _submit(cluster: Cluster, clone: Path, name: str, node: str) -> str:
    """With the real Python, as signals and kills will meet it."""
    return cluster.submit(
        clone, f"--nodelist={node} --gpus-per-node=0 --mem=2G --cpus-per-task=1 "
        f"--output={name}.log slurm/train.sbatch tiny.yaml --output_dir {name}",
        {"TEXTASSAY_PYTHON": sys.executable},
    )  # fmt: skip


def _job(base: Path) -> dict[str, object]:
    return {
        "name": "tiny",
        "seeds": [0],
        "data": {"name": "sentiment5_en", "max_samples": 160},
        "model": {"model_name_or_path": str(base), "max_seq_length": 32},
        "method": {"name": "lora", "target_modules": ["query", "value"]},
        "training": {
            "per_device_train_batch_size": 16, "max_steps": STEPS,
            "save_strategy": "steps", "save_steps": SAVE_STEPS,
            "eval_strategy": "steps", "eval_steps": 4 * SAVE_STEPS,
        },
        "evaluation": {"baselines": False, "bootstrap_samples": 100, "probe_rows": 4},
        "resources": {"device": "cpu"},
    }  # fmt: skip


def _newest_step(run: Path) -> int:
    whole = [path for path in list_checkpoints(run) if is_complete(path)]
    return step_of(whole[-1]) if whole else 0


def test_a_job_that_was_stopped_comes_back_and_ends_the_same(
    story: Story, cluster: Cluster
) -> None:
    assert story.states["alone"] == story.states["stopped"] == "COMPLETED"
    assert cluster.fact(story.ids["stopped"], "Restarts") == "1"
    said = story.log("stopped")
    assert "stopped by SIGUSR1 at step" in said
    assert "back into the queue" in said and "resuming   from checkpoint-" in said
    assert _same(story, "stopped")


def test_a_job_whose_node_died_comes_back_and_ends_the_same(story: Story, cluster: Cluster) -> None:
    assert story.states["bereft"] == "COMPLETED"
    assert cluster.fact(story.ids["bereft"], "Restarts") == "1"
    said = story.log("bereft")
    assert "stopped by" not in said and "resuming   from checkpoint-" in said
    assert _same(story, "bereft")


def test_a_job_that_was_preempted_comes_back_and_ends_the_same(
    preempted: Story, cluster: Cluster
) -> None:
    assert preempted.states["preempted"] == "COMPLETED"
    assert cluster.fact(preempted.ids["preempted"], "Restarts") == "1"
    said = preempted.log("preempted")
    assert "stopped by SIGTERM at step" in said and "resuming   from checkpoint-" in said
    assert _same(preempted, "preempted")


def test_the_jobs_were_disturbed_in_the_middle(preempted: Story) -> None:
    """Else they would prove little."""
    assert set(preempted.steps) == {"stopped", "cancelled", "bereft", "preempted"}
    assert all(0 < step < STEPS for step in preempted.steps.values()), preempted.steps
    assert _newest_step(preempted.run("alone")) == STEPS


def test_nothing_outlives_a_job_that_was_told_to_stop(preempted: Story, cluster: Cluster) -> None:
    until(lambda: not cluster.batch_scripts(), "the end of what the sbatch files have started")


def test_a_cancelled_job_stays_away_and_leaves_only_whole_checkpoints(
    story: Story, cluster: Cluster
) -> None:
    assert story.states["cancelled"] == "CANCELLED"
    assert cluster.fact(story.ids["cancelled"], "Restarts") == "0"
    run = story.run("cancelled")
    found = list_checkpoints(run)
    assert found and _newest_step(run) >= story.steps["cancelled"]
    for checkpoint in found:
        assert is_complete(checkpoint) or not (checkpoint / "complete.json").exists()
    assert not (run / "finished.json").exists() and not (run / "model").exists()


def test_a_step_that_does_not_listen_is_ended_in_time_to_come_back(
    story: Story, cluster: Cluster
) -> None:
    assert story.states["deaf"] == "COMPLETED"
    assert cluster.fact(story.ids["deaf"], "Restarts") == "1"
    assert "forcing job termination" in story.log("deaf")


def _same(story: Story, name: str) -> bool:
    """Whether a job has ended with the weights and the results of the one that was left alone."""
    results = [read_json(story.run(job) / "test_results.json") for job in (name, "alone")]
    for result in results:
        result.pop("hallmark", None)  # it says when it was made
    assert results[0] == results[1]
    return trained_weights(story.run(name)) == trained_weights(story.run("alone"))
