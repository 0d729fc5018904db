"""Jobs on two nodes: their runs one after another, and what only one of the nodes lacks."""

import sys
from pathlib import Path

import pytest
import yaml
from tests.models_for_tests import tiny_bert
from tests.slurm.cluster import Cluster

from textassay.data.read import read_file
from textassay.files import project_root, read_json

pytestmark = [pytest.mark.slow, pytest.mark.slurm]
SEEDS = (3, 1)
STEPS = 3
TWO_NODES = "--nodes=2 --gpus-per-node=0 --mem=3G --cpus-per-task=1"
# A Python that finds the rows on the first node alone.
ONE_SIDED = """#!/usr/bin/env bash
[[ ${SLURM_NODEID:-0} == 0 ]] || export TEXTASSAY_DATA__PATH=not-on-this-node.csv
exec "$REAL_PYTHON" "$@"
"""


@pytest.fixture(scope="module")
def job(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job file with two seeds for the deepspeed launcher."""
    rows = project_root() / "data" / "samples" / "sentiment5_en.csv"
    base = tmp_path_factory.mktemp("base")
    tiny_bert(base, read_file(rows).columns["text"].to_pylist())
    told = {
        "name": "apart",
        "launcher": "deepspeed",
        "seeds": list(SEEDS),
        "data": {"path": str(rows), "max_samples": 60},
        "model": {"model_name_or_path": str(base), "max_seq_length": 16},
        "method": {"name": "full"},
        "training": {"per_device_train_batch_size": 4, "max_steps": STEPS},
        "evaluation": {"baselines": False, "bootstrap_samples": 100, "probe_rows": 4},
        "resources": {"device": "cpu", "nproc_per_node": 1},
    }
    file = clone / "apart.yaml"
    file.write_text(yaml.safe_dump(told), encoding="utf-8")
    return file


def test_two_nodes_carry_out_one_seed_after_the_other(
    cluster: Cluster, clone: Path, job: Path
) -> None:
    command = f"{TWO_NODES} --output=apart.log slurm/train.sbatch {job.name} --output_dir apart"
    number = cluster.submit(clone, command)
    cluster.wait_for(number)
    said = (clone / "apart.log").read_text(encoding="utf-8")
    assert cluster.fact(number, "ExitCode") == "0:0", said
    runs = [clone / "apart" / "apart" / f"seed-{seed}" for seed in SEEDS]
    for run in runs:
        assert read_json(run / "train_results.json")["global_step"] == STEPS
        assert read_json(run / "test_results.json")["test_rows"] > 0
        provenance = read_json(run / "provenance.json")
        assert provenance["processes"] == 2 and provenance["slurm_job"] == number
    # The second node has no part in the evaluations, so they come when all are trained.
    trained = max((run / "finished.json").stat().st_mtime_ns for run in runs)
    assert all((run / "test_results.json").stat().st_mtime_ns > trained for run in runs)


def test_what_one_node_lacks_ends_the_job_on_all_of_them(
    cluster: Cluster, clone: Path, job: Path, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(ONE_SIDED, encoding="utf-8")
    python.chmod(0o755)
    command = f"{TWO_NODES} --output=lacking.log slurm/train.sbatch {job.name} --output_dir lacking"
    environment = {"TEXTASSAY_PYTHON": str(python), "REAL_PYTHON": sys.executable}
    number = cluster.submit(clone, command, environment)
    cluster.wait_for(number)
    said = (clone / "lacking.log").read_text(encoding="utf-8").splitlines()
    assert cluster.fact(number, "ExitCode") == "2:0", said
    assert [line for line in said if line.startswith("error: ")] == [
        "error: not-on-this-node.csv: there is no such file or directory."
    ], said
    assert not (clone / "lacking").exists()
