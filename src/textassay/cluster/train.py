"""A job's runs in a step of a Slurm job: python -m textassay.cluster.train [JOB.yaml] [flags]

One such process stands on every node. It is what the sbatch files start with srun.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from textassay.cluster.place import Place
from textassay.config.flags import RESUME, batch_options
from textassay.config.runs import Run, is_left_alone, stored_config
from textassay.console import err
from textassay.errors import Stopped, TextassayError, UsageError
from textassay.files import project_root
from textassay.stopping import heeding_signals, run_passing_on, stop_if_asked
from textassay.training import batch


@batch_options
def main(runs, overrides):  # type: ignore[no-untyped-def]
    """Carry out JOB_FILE on the nodes that Slurm has given: all its seeds, one after another.

    In a job array an element carries out the seed that its index counts to, from 0. What the
    deepspeed launcher has trained is evaluated on the first node.
    """
    from textassay.cluster.check import refuse_what_is_missing

    place = Place.in_step(os.environ)
    job_file, all_runs = only_job(runs)
    mine = place.share_of(all_runs)
    with heeding_signals():
        if not all(map(_is_done, mine)):
            refuse_what_is_missing(mine[0].job, place.nodes)
        carry_out(job_file, mine, overrides, place)


def only_job(jobs: Sequence[tuple[Path | None, list[Run]]]) -> tuple[Path | None, list[Run]]:
    """The one job that was named. UsageError for several: an array counts the seeds of one."""
    if len(jobs) > 1:
        raise UsageError("a Slurm job carries out one job file; submit each of them by itself.")
    return jobs[0]


def carry_out(
    job_file: Path | None, runs: Sequence[Run], overrides: Sequence[str], place: Place
) -> None:
    """Train what is not finished, evaluate what is not tested.

    A run that fails does not stop the others. A single run's exit code is passed on, and that of
    one that was asked to stop.
    """
    codes: dict[Path, int] = {}
    for run in (again(run, place.restarts) for run in runs):
        stop_if_asked()
        err().rule(f"{run.job.name}, seed {run.seed}, node {place.node + 1} of {place.nodes}",
                   align="left")  # fmt: skip
        code = _train(job_file, run, overrides, place)
        if code == 0 and place.is_first and run.job.launcher == "deepspeed":
            code = _evaluate(run)
        if code == Stopped.exit_code:
            sys.exit(code)  # it has said why
        if code != 0:
            codes[run.path] = code
    if codes and len(runs) == 1:
        sys.exit(codes[runs[0].path])
    if codes:
        named = ", ".join(f"{path} (exit code {code})" for path, code in codes.items())
        raise TextassayError(f"{len(codes)} of the runs failed: {named}.")


def again(run: Run, restarts: int) -> Run:
    """The run as it is to be taken up: once its job was queued again, --force has been obeyed."""
    begun = restarts > 0 and stored_config(run.path).get("fingerprint") == run.fingerprint()
    return replace(run, force=False) if begun else run


def command_of(
    job_file: Path | None, run: Run, overrides: Sequence[str], place: Place
) -> list[str]:
    """The command that carries out one run, or one node's part of it."""
    if place.restarts:  # another checkpoint than the newest was meant for the first time
        overrides = [flag for flag in overrides if not flag.startswith(RESUME)]
    return batch.command_of(job_file, run, overrides, "textassay.cluster.processes")


def _is_done(run: Run) -> bool:
    return run.is_finished() and not run.force


def _train(job_file: Path | None, run: Run, overrides: Sequence[str], place: Place) -> int:
    if is_left_alone(run):
        return 0
    return run_passing_on(command_of(job_file, run, overrides, place))


def _evaluate(run: Run) -> int:
    """What a ZeRO run leaves to the evaluator, unless it has been done."""
    from textassay.evaluation.outputs import RESULTS

    if (run.path / RESULTS).is_file():
        return 0
    script = project_root() / "scripts" / "evaluate.py"
    device = run.job.resources.device
    return run_passing_on([sys.executable, str(script), str(run.path), f"--device={device}"])


if __name__ == "__main__":
    main()
