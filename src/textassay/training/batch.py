"""Any number of jobs, all their seeds: one process a run, and a summary of each job."""

import sys
from collections.abc import Sequence
from pathlib import Path

from textassay.config.runs import Run
from textassay.console import INTERRUPTED, err, say, tell
from textassay.errors import Stopped, TextassayError
from textassay.files import project_root
from textassay.stopping import run_passing_on, stop_if_asked
from textassay.training.extras import provide_extras

Jobs = Sequence[tuple[Path | None, list[Run]]]


def run_jobs(jobs: Jobs, overrides: Sequence[str]) -> None:
    """Carry out the runs one after another, then print and write each job's summary.

    A run that fails does not stop the others; TextassayError at the end names those that did.
    """
    failed: list[str] = []
    provide_extras([run.job for _, runs in jobs for run in runs[:1]])
    for job_file, runs in jobs:
        for run in runs:
            if run.is_finished() and not run.force:
                say(f"{run.path} is finished; --force runs it again")
                continue
            stop_if_asked()
            err().rule(f"{run.job.name}, seed {run.seed}", align="left")
            code = _run_in_process(job_file, run, overrides)
            if code == INTERRUPTED:  # the keyboard means all of it
                raise KeyboardInterrupt
            if code == Stopped.exit_code:
                raise Stopped(f"{run.path} was stopped; the same command goes on from there.")
            if code != 0:
                failed.append(f"{run.path} (exit code {code})")
    for _, runs in jobs:
        _summarize(runs)
    if failed:
        raise TextassayError(f"{len(failed)} of the runs failed: {', '.join(failed)}.")


def _run_in_process(job_file: Path | None, run: Run, overrides: Sequence[str]) -> int:
    script = project_root() / "scripts" / f"train_{run.job.launcher}.py"
    command = [sys.executable]
    if run.job.launcher == "deepspeed":
        count = run.job.resources.nproc_per_node or run.job.resources.device
        command += ["-m", "textassay.training.launch", str(count)]
    command += [str(script), *([str(job_file)] if job_file else [])]
    command += [
        f"--seed={run.seed}",
        f"--output_dir={run.path}",
        *overrides,
        *(["--force"] if run.force else []),
    ]
    return run_passing_on(command)


def _summarize(runs: list[Run]) -> None:
    # Here, and not above: these bring scikit-learn and matplotlib, which the runs load themselves.
    from textassay.evaluation.summary import publish_summary, summarize

    name = runs[0].job.name
    summary = summarize(name, runs)
    untested = [str(run.path) for run in runs if run.seed in summary["untested"]]
    if untested:
        tell(f"not tested yet: bash eval.sh {' '.join(untested)}")
    if not summary["seeds"]:
        return
    publish_summary(runs[0].path.parent, summary)
