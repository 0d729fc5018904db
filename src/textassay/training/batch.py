"""Any number of jobs, all their seeds: one process a run, and a summary of each job."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from textassay.config.runs import Run
from textassay.console import INTERRUPTED, counted, err, say, some, tell
from textassay.errors import DataError, GateError, Stopped, TextassayError
from textassay.evaluation.learned import did_not_learn
from textassay.interpreter import python_command
from textassay.locking import refuse_if_locked
from textassay.stopping import run_passing_on, stop_if_asked
from textassay.training.extras import provide_extras

Jobs = Sequence[tuple[Path | None, list[Run]]]


def run_jobs(jobs: Jobs, overrides: Sequence[str]) -> None:
    """Carry out the runs one after another, then print and write each job's summary.

    A run that fails, or did not learn, does not stop the others. At the end TextassayError names
    those that failed; GateError, where that is all, those that did not learn. UsageError before the
    first one where another process is at one of them.
    """
    failed: dict[Path, int] = {}
    for run in (run for _, runs in jobs for run in runs):
        refuse_if_locked(run.path)
    provide_extras([run.job for _, runs in jobs for run in runs[:1]])
    for job_file, runs in jobs:
        for run in runs:
            if run.is_done() and _is_left_alone(run):
                continue
            stop_if_asked()
            err().rule(f"{run.job.name}, seed {run.seed}", align="left")
            code = run_passing_on(command_of(job_file, run, overrides))
            if code == INTERRUPTED:  # the keyboard means all of it
                raise KeyboardInterrupt
            if code == Stopped.exit_code:
                raise Stopped(f"{run.path} was stopped; the same command goes on from there.")
            if code != 0:
                failed[run.path] = code
            if code == DataError.exit_code and run != runs[-1]:
                say("the other seeds of this job have the same data, and are not tried")
                break
    mixed: list[TextassayError] = []
    for _, runs in jobs:
        try:
            _summarize(runs)
        except TextassayError as error:
            mixed.append(error)
    refuse_bad_ends(failed, [run for _, runs in jobs for run in runs])
    if mixed:
        raise mixed[0]


def refuse_bad_ends(codes: Mapping[Path, int], runs: Sequence[Run]) -> None:
    """TextassayError where runs have failed; GateError where that is all, but some did not learn.

    `codes` has the exit code of each bad end. A run that did not learn has not failed: it is
    finished, with its artifact and its report.
    """
    unlearned = [str(run.path) for run in runs if run.is_finished() and did_not_learn(run.path)
                 and not run.job.evaluation.allow_unlearned]  # fmt: skip
    failed = [f"{path} (exit code {code})" for path, code in codes.items()
              if str(path) not in unlearned]  # fmt: skip
    if failed:
        raise TextassayError(f"{len(failed)} of the runs failed: {some(failed)}.")
    if unlearned:
        raise GateError(
            f"{len(unlearned)} of {counted(len(runs), 'run')} did not learn: "
            f"{some(unlearned)}. Their reports say what to try; --allow_unlearned takes them for "
            "a success."
        )


def command_of(
    job_file: Path | None, run: Run, overrides: Sequence[str],
    starter: Sequence[str] = ("textassay.training.launch",),
) -> list[str]:  # fmt: skip
    """The command that carries out one run; `starter` starts the processes of the deepspeed one."""
    command = python_command()
    if run.job.launcher == "deepspeed":
        count = run.job.resources.nproc_per_node or run.job.resources.device
        command += ["-m", *starter, str(count)]
    command += ["-m", f"textassay.commands.train_{run.job.launcher}"]
    command += [str(job_file)] if job_file else []
    command += [f"--seed={run.seed}", f"--output_dir={run.path}", *overrides]
    return [*command, *(["--force"] if run.force else [])]


def _is_left_alone(run: Run) -> bool:
    from textassay.training.inputs import is_left_alone  # it imports torch

    return is_left_alone(run)


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
