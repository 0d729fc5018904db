"""A job's runs in a step of a Slurm job: python -m textassay.cluster.train [JOB.yaml] [flags]

One such process stands on every node. It is what the sbatch files start with srun.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from textassay.cluster.evaluate import EVALUATOR
from textassay.cluster.place import Place
from textassay.config.flags import RESUME, batch_options
from textassay.config.runs import PROVENANCE, Run, stored_config
from textassay.console import err
from textassay.errors import Stopped, UsageError
from textassay.files import read_object
from textassay.interpreter import python_command
from textassay.stopping import heeding_signals, run_passing_on, stop_if_asked
from textassay.training import batch


@batch_options
def main(runs, overrides):  # type: ignore[no-untyped-def]
    """Carry out JOB_FILE on the nodes that Slurm has given: all its seeds, one after another.

    In a job array an element carries out the seed that its index counts to, from 0. What the
    deepspeed launcher has trained is evaluated on the first node.
    """
    from textassay.cluster.needs import refuse_unless_done

    place = Place.in_step(os.environ)
    job_file, mine = part_of(runs, place)
    with heeding_signals():
        refuse_unless_done(mine, place.nodes)
        carry_out(job_file, mine, overrides, place)


def part_of(
    jobs: Sequence[tuple[Path | None, list[Run]]], place: Place
) -> tuple[Path | None, list[Run]]:
    """The one job file, and those of its runs that this place carries out, as it takes them up."""
    job_file, runs = only_job(jobs)
    return job_file, [again(run, place) for run in place.share_of(runs)]


def only_job(jobs: Sequence[tuple[Path | None, list[Run]]]) -> tuple[Path | None, list[Run]]:
    """The one job that was named. UsageError for several: an array counts the seeds of one."""
    if len(jobs) > 1:
        raise UsageError("a Slurm job carries out one job file; submit each of them by itself.")
    return jobs[0]


def carry_out(
    job_file: Path | None, runs: Sequence[Run], overrides: Sequence[str], place: Place
) -> None:
    """Train what is not finished; when all are trained, evaluate what is not tested.

    Not before: the other nodes have no part in that, and would wait for the first one. A run that
    fails, or did not learn, does not stop the others. A single run's exit code is passed on, and
    that of one that was asked to stop.
    """
    failed: dict[Path, int] = {}
    for run in runs:
        stop_if_asked()
        err().rule(f"{run.job.name}, seed {run.seed}, node {place.node + 1} of {place.nodes}",
                   align="left")  # fmt: skip
        _note(failed, run, _train(job_file, run, overrides, place))
    for run in runs:
        if place.is_first and run.job.launcher == "deepspeed" and run.is_finished():
            stop_if_asked()
            _note(failed, run, _evaluate(run))
    if failed and len(runs) == 1:
        sys.exit(failed[runs[0].path])
    batch.refuse_bad_ends(failed, runs)


def command_of(
    job_file: Path | None, run: Run, overrides: Sequence[str], place: Place
) -> list[str]:
    """The command that carries out one run, or one node's part of it.

    A run that this Slurm job had begun goes on from its newest checkpoint.
    """
    if has_begun(run, place):
        overrides = [flag for flag in overrides if not flag.startswith(RESUME)]
    starter = ("textassay.cluster.processes", str(run.seed))
    return batch.command_of(job_file, run, overrides, starter)


def again(run: Run, place: Place) -> Run:
    """The run as it is to be taken up: where this Slurm job had begun it, --force was obeyed."""
    return replace(run, force=run.force and not has_begun(run, place))


def has_begun(run: Run, place: Place) -> bool:
    """Whether this Slurm job had begun the run when it was queued again."""
    if not place.restarts or not stored_config(run.path) or run.changed_settings():
        return False
    stored = run.path / PROVENANCE
    return stored.is_file() and read_object(stored).get("slurm_job") == str(place.job_id)


def _note(failed: dict[Path, int], run: Run, code: int) -> None:
    if code == Stopped.exit_code:
        sys.exit(code)  # it has said why
    if code != 0:
        failed[run.path] = code


def _train(job_file: Path | None, run: Run, overrides: Sequence[str], place: Place) -> int:
    if run.is_done() and _is_left_alone(run):
        return 0
    return run_passing_on(command_of(job_file, run, overrides, place))


def _is_left_alone(run: Run) -> bool:
    from textassay.training.inputs import is_left_alone  # it imports torch

    return is_left_alone(run)


def _evaluate(run: Run) -> int:
    """What a ZeRO run leaves to the evaluator, unless it has been done."""
    from textassay.evaluation.outputs import RESULTS

    if (run.path / RESULTS).is_file():
        return 0
    device = run.job.resources.device
    return run_passing_on(python_command("-m", EVALUATOR, str(run.path), f"--device={device}"))


if __name__ == "__main__":
    main()
