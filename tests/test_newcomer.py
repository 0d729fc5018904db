"""What a newcomer does: `bash train.sh`, again, by force, and with a job's settings changed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.commands_for_tests import ALLOW_UNLEARNED
from tests.fork_server import python

from textassay.files import project_root, read_json

pytestmark = pytest.mark.slow
SHORT = ["--max_samples", "60", "--max_steps", "3"]


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`bash train.sh` from `folder`, in an environment with nothing but a PATH and a home."""
    return call("train.sh", folder, *arguments)


def call(script: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TEXTASSAY_PYTHON": python(),
        ALLOW_UNLEARNED: "true",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        ["bash", str(project_root() / script), *arguments],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip


def test_train_sh_runs_three_seeds_and_knows_what_is_finished(tmp_path: Path) -> None:
    first = train(tmp_path, *SHORT)
    assert first.returncode == 0, first.stderr
    for row in ("seed 0", "seed 42", "seed 123", "mean ± sd", "TF-IDF", "majority"):
        assert row in first.stdout
    page = tmp_path / "runs" / "quickstart" / "summary.html"
    assert page.is_file() and "runs/quickstart/summary.html" in first.stdout
    for said in (first.stdout, first.stderr):
        assert "warning" not in said.lower() and "Traceback" not in said
    stamp = tmp_path / "runs" / "quickstart" / "seed-42" / "finished.json"
    before = stamp.read_text()

    again = train(tmp_path, *SHORT)
    assert again.returncode == 0
    assert again.stderr.count("is finished") == 3
    assert stamp.read_text() == before

    other = train(tmp_path, *SHORT, "--seeds", "42", "--learning_rate", "5e-4")
    assert other.returncode == 1
    assert "training.learning_rate: 0.002 there, 0.0005 here" in other.stderr
    forced = train(tmp_path, *SHORT, "--seeds", "42", "--learning_rate", "5e-4", "--force")
    assert forced.returncode == 0, forced.stderr
    assert stamp.read_text() != before


def test_two_processes_train_and_the_evaluator_tests(tmp_path: Path, real_data: Path) -> None:
    pytest.importorskip("deepspeed", reason="the extra deepspeed is not installed")
    job = str(project_root() / "jobs" / "sst2_minilm_deepspeed.yaml")
    data = ["--data_path", str(real_data / "sst2"), "--seeds", "42"]
    trained = train(tmp_path, job, *data, *SHORT)
    assert trained.returncode == 0, trained.stderr
    run = Path("runs") / "sst2_minilm_deepspeed" / "seed-42"
    assert f"not tested yet: bash eval.sh {run}" in trained.stdout

    checkpoint = run / read_json(tmp_path / run / "train_results.json")["best_checkpoint"]
    tested = call("eval.sh", tmp_path, str(run), str(checkpoint))
    assert tested.returncode == 0, tested.stderr
    assert tested.stdout.count("report: ") == 2
    own, bare = (read_json(tmp_path / folder / "test_results.json")
                 for folder in (run, run / f"evaluation-{checkpoint.name}"))  # fmt: skip
    # A bare checkpoint has no temperature, which changes what is computed from probabilities.
    probable = ("test_log_loss", "test_ece", "test_roc_auc")
    figures = {k: v for k, v in own.items() if k.startswith("test_") and k not in probable}
    assert figures == {key: bare[key] for key in figures} and figures["test_rows"] == 60
    assert len(figures) > 8 and own["per_class"] == bare["per_class"]

    summed = train(tmp_path, job, *data, *SHORT)
    assert "is finished" in summed.stderr and "seed 42" in summed.stdout
    lost = call("eval.sh", tmp_path, "nowhere/at/all", str(run / "model"))
    assert lost.returncode == 2 and "cannot be had" in " ".join(lost.stderr.split())
    assert (tmp_path / run / "evaluation" / "report.html").is_file(), "the next one is evaluated"
    both = call("eval.sh", tmp_path, str(run), str(checkpoint), "--output_dir", "out")
    assert both.returncode == 2 and "--output_dir is one folder" in both.stderr
    for said in (trained.stderr, tested.stderr):
        assert "warning" not in said.lower() and "Traceback" not in said


def test_a_file_alone_is_a_job_that_ends_with_a_verdict(tmp_path: Path) -> None:
    shutil.copy(project_root() / "data" / "samples" / "sentiment5_en.csv", tmp_path / "my.csv")
    done = train(tmp_path, "my.csv", *SHORT, "--seeds", "0")
    assert done.returncode == 0, done.stderr
    results = read_json(tmp_path / "runs" / "my" / "seed-0" / "test_results.json")
    *_, verdict = done.stderr.splitlines()
    assert verdict == f"verdict    {results['verdict']}"
    for name in ("test", "TF-IDF", "majority"):
        assert re.search(rf"^{name} +accuracy 0\.\d+ \[.*macro-F1 0\.\d+ \[", done.stderr, re.M), (
            name
        )
    assert (tmp_path / "runs" / "my" / "summary.html").is_file()


@pytest.mark.parametrize("script", ["train_lora.py", "train_full.py"])
def test_a_launcher_needs_no_job_file(script: str, tmp_path: Path) -> None:
    """Processes that import what they need, in an empty home."""
    rows = project_root() / "data" / "samples" / "sentiment5_en.csv"
    shutil.copy(rows, tmp_path / "my.csv")
    done = subprocess.run(
        [sys.executable, str(project_root() / "scripts" / script), "--data_path", "my.csv",
         "--model-name-or-path", "sentence-transformers/all-MiniLM-L6-v2",
         "--output_dir", "out", *SHORT],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "out" / "test_results.json")["test_rows"] == 60
    kind = "adapter_config.json" if script == "train_lora.py" else "model.safetensors"
    assert (tmp_path / "out" / "model" / kind).is_file()
