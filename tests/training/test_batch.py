"""Several runs: a failure stops nobody, is not forgotten, and a summary tells all."""

import os
from pathlib import Path

import pytest
import yaml
from tests.fork_server import forked_command

from textassay.config.load import resolve_job
from textassay.config.runs import runs_of
from textassay.errors import TextassayError
from textassay.files import read_json
from textassay.training.batch import run_jobs

pytestmark = pytest.mark.slow


def job_file(folder: Path, base: Path, name: str, **training) -> Path:
    content = {
        "name": name,
        "launcher": "lora",
        "seeds": [0, 1],
        "data": {"name": "sentiment5_en", "max_samples": 60},
        "model": {"model_name_or_path": str(base), "max_seq_length": 32},
        "method": {"name": "lora", "target_modules": ["query"]},
        "training": {"max_steps": 2, **training},
        "evaluation": {"allow_unlearned": True},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_failed_run_does_not_stop_the_others(tiny_base, tmp_path, capfd, monkeypatch) -> None:
    monkeypatch.setattr("textassay.training.batch.python_command", forked_command)
    good = job_file(tmp_path, tiny_base, "good")
    bad = job_file(tmp_path, tiny_base, "bad", optim="no_such_optimizer")
    jobs = []
    for path in (bad, good):
        job, _ = resolve_job(path, None, os.environ, {}, None)
        jobs.append((path, runs_of(job, tmp_path / "runs")))
    with pytest.raises(TextassayError, match=r"2 of the runs failed: .*bad.seed-0"):
        run_jobs(jobs, [])
    printed = capfd.readouterr()
    assert "no_such_optimizer" in printed.err and "Traceback" not in printed.err
    for row in (
        "seed 0",
        "seed 1",
        "mean ± sd",
        "TF-IDF",
        "majority",
        "all seeds: ",
        "over 2 seeds and",
    ):
        assert row in printed.out
    summary = read_json(tmp_path / "runs" / "good" / "summary.json")
    assert [seed["seed"] for seed in summary["seeds"]] == [0, 1]
    assert (tmp_path / "runs" / "good" / "summary.html").is_file()
    assert not (tmp_path / "runs" / "bad" / "seed-0").exists()

    run_jobs(jobs[1:], [])
    assert capfd.readouterr().err.count("is finished; --force runs it again") == 2


def test_data_that_cannot_be_used_is_said_once_a_job(
    tiny_base, tmp_path, capfd, monkeypatch
) -> None:
    monkeypatch.setattr("textassay.training.batch.python_command", forked_command)
    (tmp_path / "bad.csv").write_text("text,label\na text,\nanother,b\n")
    path = job_file(tmp_path, tiny_base, "bad")
    content = yaml.safe_load(path.read_text())
    content["data"] = {"path": str(tmp_path / "bad.csv")}
    path.write_text(yaml.safe_dump(content))
    job, _ = resolve_job(path, None, os.environ, {}, None)
    with pytest.raises(TextassayError, match="1 of the runs failed"):
        run_jobs([(path, runs_of(job, tmp_path / "runs"))], [])
    printed = capfd.readouterr().err
    assert printed.count("error: ") == 1
    assert "the other seeds of this job have the same data, and are not tried" in printed
