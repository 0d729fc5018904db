"""Submit a job's runs to Slurm: what `slurm/submit.sh` starts.

submit.sh JOB.yaml [flags of sbatch] [-- flags of train.sh]

An array carries out the job's seeds, each by itself, with the job's `resources`. A summary follows
when all have ended. Both ids are printed. Flags of sbatch win over the job's.
"""

import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from textassay.cluster.resources import sbatch_flags
from textassay.cluster.train import only_job
from textassay.config.flags import batch_options
from textassay.config.runs import Run
from textassay.console import counted, reports_errors, tell
from textassay.errors import TextassayError, UsageError
from textassay.files import project_root

# Who pays and where: what the summary has in common with the array.
SHARED = ("--account", "--partition", "--qos", "--reservation", "-A", "-p", "-q")


def array_line(runs: Sequence[Run], given: Sequence[str], command: Sequence[str]) -> list[str]:
    """The sbatch line of an array over the seeds. `command` is the job file and its flags."""
    return [
        "sbatch", "--parsable", f"--job-name={runs[0].job.name}", f"--array=0-{len(runs) - 1}",
        f"--output={folder_of(runs)}/slurm-%A_%a.out", *sbatch_flags(runs[0].job), *given,
        _sbatch_file("train"), *command,
    ]  # fmt: skip


def summary_line(
    runs: Sequence[Run], given: Sequence[str], command: Sequence[str], array: str
) -> list[str]:
    """The sbatch line of the summary, once every element of the array has ended, well or not."""
    return [
        "sbatch", "--parsable", f"--job-name={runs[0].job.name}-summary",
        f"--dependency=afterany:{array}", f"--output={folder_of(runs)}/slurm-%j-summary.out",
        *shared_flags(given), _sbatch_file("summary"), *command,
    ]  # fmt: skip


def shared_flags(given: Sequence[str]) -> list[str]:
    """Those of the given flags that say who pays and where, with their values."""
    kept: list[str] = []
    for flag, following in pairwise([*given, ""]):
        if flag in SHARED:
            kept += [flag, following]
        elif flag.partition("=")[0] in SHARED or flag[:2] in ("-A", "-p", "-q"):
            kept.append(flag)
    return kept


def folder_of(runs: Sequence[Run]) -> Path:
    """The job's folder of runs, where its logs go."""
    return runs[0].path.parent


def submit(line: Sequence[str]) -> str:
    """The id of a job that sbatch has taken. TextassayError with its own words where it refuses."""
    try:
        done = subprocess.run(line, capture_output=True, text=True)
    except FileNotFoundError:
        raise UsageError(
            "there is no sbatch here; submit from a machine that belongs to a Slurm cluster, or "
            "use train.sh."
        ) from None
    if done.returncode != 0:
        said = done.stderr.strip().replace("sbatch: error: ", "")
        raise TextassayError(f"sbatch refuses: {said} The line was: {' '.join(line)}")
    return done.stdout.strip().partition(";")[0]


def split_arguments(arguments: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """The job file, flags of sbatch, and, behind `--`, flags of train.sh."""
    if not arguments or arguments[0].startswith("-"):
        raise UsageError("submit.sh JOB.yaml [flags of sbatch] [-- flags of train.sh]")
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[0], list(arguments[1:cut]), list(arguments[cut + 1 :])


@reports_errors
def main(arguments: Sequence[str]) -> None:
    """Submit the array and its summary, and print their ids."""
    if "--help" in arguments:
        tell((__doc__ or "").strip())
        return
    job_file, given, train_flags = split_arguments(arguments)
    command = [job_file, *train_flags]

    @batch_options
    def submit_both(runs, overrides):  # type: ignore[no-untyped-def]
        _, mine = only_job(runs)
        folder_of(mine).mkdir(parents=True, exist_ok=True)  # Slurm makes no folder for a log
        array = submit(array_line(mine, given, command))
        tell(
            f"array    {array}: {counted(len(mine), 'seed')}, {folder_of(mine)}/slurm-{array}_*.out"
        )
        try:
            summary = submit(summary_line(mine, given, command, array))
        except TextassayError:
            subprocess.run(["scancel", array])
            tell(f"array    {array}: cancelled, since nobody would sum it up")
            raise
        tell(f"summary  {summary}: {folder_of(mine)}/slurm-{summary}-summary.out")

    submit_both(command)


def _sbatch_file(name: str) -> str:
    return str(project_root() / "slurm" / f"{name}.sbatch")


if __name__ == "__main__":
    main(sys.argv[1:])
