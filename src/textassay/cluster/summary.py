"""All seeds of a job, once they have ended: python -m textassay.cluster.summary [JOB.yaml]"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from textassay.cluster.train import only_job
from textassay.config.flags import batch_options
from textassay.config.runs import Run
from textassay.console import counted
from textassay.errors import TextassayError
from textassay.training.batch import refuse_bad_ends

LOGS = "slurm-{array}_{index}.out"
# As slurm/common.sh says it.
AGAIN = "back into the queue"
# What says why, the telling one first: ours, that of what ends a step, of what has started it.
BLAME = ("error: ", "slurmstepd: error: ", "srun: error: ")


@batch_options
def main(runs, overrides):  # type: ignore[no-untyped-def]
    """Print and write the summary of JOB_FILE over its seeds; exit code 1 if one has failed.

    3 where all have ended, and one did not learn.
    """
    _, mine = only_job(runs)
    sum_up(mine, array_before(os.environ))


def array_before(environ: Mapping[str, str]) -> str:
    """The id of the array that this job has waited for, as sbatch was told; any where it was not.

    `*` stands for any, as in a file name's pattern.
    """
    kind, _, job = environ.get("SLURM_JOB_DEPENDENCY", "").partition(":")
    return job if kind == "afterany" and job.isdigit() else "*"


def sum_up(runs: Sequence[Run], array: str) -> None:
    """Print and write the summary. TextassayError that names the seeds without a result, and why.

    `runs` are in the order of the job's seeds, by which a job array counts its elements.
    """
    from textassay.evaluation.summary import publish_summary, summarize

    folder = runs[0].path.parent
    summary = summarize(runs[0].job.name, runs)
    if summary["seeds"]:
        publish_summary(folder, summary)
    lacking = {*summary["failed"], *summary["untested"]}
    told = [f"seed {run.seed} ({why(folder, array, index)})" for index, run in enumerate(runs)
            if run.seed in lacking]  # fmt: skip
    if told:
        raise TextassayError(
            f"{len(told)} of {counted(len(runs), 'seed')} have no result: {'; '.join(told[:3])}"
            f"{'; …' if len(told) > 3 else ''}. Submit the job again: what is finished is left "
            "alone."
        )
    refuse_bad_ends({}, runs)


def why(folder: Path, array: str, index: int) -> str:
    """The error in the newest log of an array's element, and where the log is."""
    pattern = LOGS.format(array=array, index=index)
    logs = sorted(folder.glob(pattern), key=lambda log: log.stat().st_mtime)
    if not logs:
        return f"it has not begun, there is no {folder}/{pattern}"
    text = logs[-1].read_text(encoding="utf-8", errors="replace")
    last_attempt = text.rpartition(AGAIN)[2].splitlines()
    for blame in BLAME:
        errors = [line for line in last_attempt if line.startswith(blame)]
        if errors:
            return f"{errors[-1]} In {logs[-1]}"
    return f"see {logs[-1]}"


if __name__ == "__main__":
    main()
