"""docs/cluster.md, block by block as it stands, on the test cluster; and what is refused there."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.slurm.cluster import Cluster, until

from textassay.files import project_root, read_json

pytestmark = [pytest.mark.slow, pytest.mark.slurm]
PAGE = project_root() / "docs" / "cluster.md"
# What makes the guide's jobs short. The GPUs of the test cluster are only device files.
SHORT = {
    "TEXTASSAY_RESOURCES__DEVICE": "cpu",
    "TEXTASSAY_RESOURCES__NPROC_PER_NODE": "1",
    "TEXTASSAY_TRAINING__MAX_STEPS": "4",
    "TEXTASSAY_DATA__MAX_SAMPLES": "64",
    "TEXTASSAY_EVALUATION__BASELINES": "false",
    "TEXTASSAY_EVALUATION__PROBE_ROWS": "2",
}
R8 = "runs/r8_llama_deepspeed/seed-42"
R8_STEPS = 40
Shell = Callable[..., subprocess.CompletedProcess[str]]


def block(named: str) -> str:
    """The page's only block of commands with these words."""
    text = PAGE.read_text(encoding="utf-8")
    found = [code for code in re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
             if named in code]  # fmt: skip
    assert len(found) == 1, named
    return str(found[0])


@pytest.fixture(scope="module")
def shell(cluster: Cluster, clone: Path) -> Shell:
    """A command line in the clone, whose jobs are short."""
    return lambda command, **extra: cluster.shell(clone, command, {**SHORT, **extra})


@pytest.fixture(scope="module")
def submitted(cluster: Cluster, clone: Path, shell: Shell, real_data: Path) -> dict[str, str]:
    """The guide, from its beginning: the ids of its jobs, all of which are over."""
    ids = {}
    done = shell(block("cp slurm"))
    assert done.returncode == 0
    done = shell(block("srun"))
    assert done.returncode == 0 and "training.max_steps" in done.stdout, done.stderr
    done = shell(block("--wait slurm/train.sbatch"))
    assert done.returncode == 0, done.stderr
    done = shell(block("submit.sh"))
    for name, pattern in {
        "array": r"^array    (\d+): 3 seeds, ",
        "summary": r"^summary  (\d+): ",
    }.items():
        found = re.search(pattern, done.stdout, re.MULTILINE)
        assert found, done.stderr
        ids[name] = found[1]
    cluster.wait_for(ids["summary"])
    model = real_data.parent / "checkpoints" / "tinystories-llama-260k"
    r8 = shell(
        block("deepspeed_r8.sbatch"), TEXTASSAY_DATA_DIR=str(real_data),
        TEXTASSAY_MODEL__MODEL_NAME_OR_PATH=str(model), TEXTASSAY_MODEL__MAX_SEQ_LENGTH="256",
        TEXTASSAY_TRAINING__MAX_STEPS=str(R8_STEPS),
    )  # fmt: skip
    ids["r8"] = number(r8)
    until((clone / R8 / "provenance.json").exists, "the training on two nodes")
    shell(f"scancel --batch --signal=USR1 {ids['r8']}")
    # The evaluator has no settings of a job, so it is told of the GPUs by a flag.
    ids["eval"] = number(shell(f"{block('eval.sbatch').strip()} --device cpu"))
    for job in ("r8", "eval"):
        cluster.wait_for(ids[job])
    return ids


def number(done: subprocess.CompletedProcess[str]) -> str:
    """The id that sbatch has printed."""
    found = re.search(r"^Submitted batch job (\d+)$", done.stdout, re.MULTILINE)
    assert found, done.stderr
    return found[1]


def ids_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The ids of array and summary that submit.sh has printed."""
    found = re.findall(r"^(array|summary) +(\d+): ", done.stdout, re.MULTILINE)
    assert [name for name, _ in found] == ["array", "summary"], done.stderr
    return [job for _, job in found]


def test_every_command_of_the_guide_is_carried_out_here() -> None:
    text = PAGE.read_text(encoding="utf-8")
    commands = re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    tested = ("cp slurm", "srun", "--wait slurm/train.sbatch", "submit.sh", "deepspeed_r8.sbatch",
              "eval.sbatch")  # fmt: skip
    assert [block(name) for name in tested] == commands
    assert "scancel --batch --signal=USR1" in text  # tests/slurm/test_interrupted.py


def test_the_array_trains_every_seed_and_the_summary_sums_them_up(
    submitted: dict[str, str], cluster: Cluster, clone: Path
) -> None:
    assert cluster.fact(submitted["summary"], "ExitCode") == "0:0"
    folder = clone / "runs" / "quickstart"
    seeds = read_json(folder / "summary.json")["seeds"]
    assert [seed["seed"] for seed in seeds] == [0, 42, 123]
    said = (folder / f"slurm-{submitted['summary']}-summary.out").read_text(encoding="utf-8")
    assert "mean ± sd" in said and "report: runs/quickstart/summary.html" in said
    logs = {index: (folder / f"slurm-{submitted['array']}_{index}.out").read_text("utf-8")
            for index in range(3)}  # fmt: skip
    # Seed 42 had been carried out before.
    assert "seed-42 is finished" in logs[1] and "device" not in logs[1]
    assert "device     cpu" in logs[0] and "device     cpu" in logs[2]


def test_r8_is_trained_on_two_nodes_and_evaluated(
    submitted: dict[str, str], cluster: Cluster, clone: Path
) -> None:
    said = (clone / f"slurm-{submitted['r8']}.out").read_text(encoding="utf-8")
    assert cluster.fact(submitted["r8"], "ExitCode") == "0:0", said
    assert cluster.fact(submitted["r8"], "NumNodes") == "2"
    assert "node 1 of 2" in said and "node 2 of 2" in said
    assert "ZeRO stage 3, 2 processes" in said
    run = clone / R8
    assert read_json(run / "train_results.json")["global_step"] == R8_STEPS
    results = read_json(run / "test_results.json")
    assert results["test_rows"] == 64 and 0 <= results["test_accuracy"] <= 1
    assert (run / "model" / "hallmark.json").is_file()


def test_two_nodes_that_were_stopped_come_back_together(
    submitted: dict[str, str], cluster: Cluster, clone: Path
) -> None:
    said = (clone / f"slurm-{submitted['r8']}.out").read_text(encoding="utf-8")
    assert cluster.fact(submitted["r8"], "Restarts") == "1"
    stopped = re.search(r"stopped by SIGUSR1 at step (\d+)", said)
    assert stopped and 0 < int(stopped[1]) < R8_STEPS, said
    assert f"resuming   from checkpoint-{stopped[1]}\n" in said


def test_a_run_is_evaluated_again_beside_its_results(
    submitted: dict[str, str], cluster: Cluster, clone: Path
) -> None:
    assert cluster.fact(submitted["eval"], "ExitCode") == "0:0"
    run = clone / "runs" / "quickstart" / "seed-42"
    again, own = (read_json(folder / "test_results.json") for folder in (run / "evaluation", run))
    assert again["test_accuracy"] == own["test_accuracy"]


def test_the_summary_says_which_seed_has_failed_and_why(
    submitted: dict[str, str], cluster: Cluster, clone: Path, shell: Shell
) -> None:
    blocked = clone / "runs" / "quickstart" / "seed-7"
    blocked.write_text("in the way", encoding="utf-8")
    done = shell("bash slurm/submit.sh jobs/quickstart.yaml -- --seeds 0,42,7")
    array, summary = ids_of(done)
    assert cluster.wait_for(summary) == "FAILED"
    assert cluster.fact(summary, "ExitCode") == "1:0"
    said = (blocked.parent / f"slurm-{summary}-summary.out").read_text(encoding="utf-8")
    told = said.replace(f"slurm-{array}_2.out", "slurm-8_2.out").splitlines()
    assert any(
        line in PAGE.read_text(encoding="utf-8") for line in told if "have no result" in line
    )
    assert "seed 0: " in said and "seed 42: " in said  # what there is is summed up


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("sbatch --nodes=3 slurm/train.sbatch", "Node count specification invalid"),
        ("bash slurm/submit.sh jobs/quickstart.yaml --gpus-per-node=3",
         "error: sbatch refuses: Batch job submission failed: Requested node configuration is not "
         "available"),
        ("bash slurm/submit.sh jobs/quickstart.yaml --partition=nowhere",
         "error: sbatch refuses: invalid partition specified: nowhere"),
        ("bash slurm/submit.sh jobs/quickstart.yaml --time=3-0", "time limit"),
        ("bash slurm/submit.sh jobs/quickstart.yaml -- --nodes 2", "is one process on one node"),
        ("bash slurm/submit.sh jobs/nothing.yaml", "there is no such job file"),
    ],
)  # fmt: skip
def test_what_the_cluster_cannot_give_is_refused_in_its_own_words(
    shell: Shell, command, said
) -> None:
    done = shell(command)
    assert done.returncode != 0 and not re.search(r"^(array|Submitted)", done.stdout, re.MULTILINE)
    assert said in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        ("jobs/quickstart.yaml", {"TEXTASSAY_RESOURCES__DEVICE": "auto"},
         "CUDA_VISIBLE_DEVICES=0 allots a GPU, but torch"),
        ("jobs/r8_llama_deepspeed.yaml", {}, "meta-llama/Llama-3.2-1B-Instruct at the revision"),
        ("jobs/quickstart.yaml --data_path nowhere.csv", {}, "nowhere.csv"),
    ],
    ids=["gpu", "model", "data"],
)  # fmt: skip
def test_what_is_missing_ends_the_job_before_anything_starts(
    cluster: Cluster,
    clone: Path,
    tmp_path: Path,
    words: str,
    environment: dict[str, str],
    said: str,
) -> None:
    log = tmp_path / "log"
    command = f"--output={log} slurm/train.sbatch {words} --output_dir missing"
    job = cluster.submit(clone, command, {**SHORT, **environment})
    cluster.wait_for(job)
    assert cluster.fact(job, "ExitCode") == "2:0"
    lines = log.read_text(encoding="utf-8").splitlines()
    assert any(line.startswith("error: ") and said in line for line in lines), lines
    assert not (clone / "missing").exists()
