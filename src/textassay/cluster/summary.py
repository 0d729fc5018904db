"""All seeds of a job, once they have ended: python -m textassay.cluster.summary [JOB.yaml]"""

from collections.abc import Sequence
from pathlib import Path

from textassay.cluster.train import only_job
from textassay.config.flags import batch_options
from textassay.config.runs import Run
from textassay.errors import TextassayError

LOGS = "slurm-*_{index}.out"


@batch_options
def main(runs, overrides):  # type: ignore[no-untyped-def]
    """Print and write the summary of JOB_FILE over its seeds; exit code 1 if one has failed."""
    _, mine = only_job(runs)
    sum_up(mine)


def sum_up(runs: Sequence[Run]) -> None:
    """Print and write the summary. TextassayError that names the seeds without a result, and why.

    `runs` are in the order of the job's seeds, by which a job array counts its elements.
    """
    from textassay.evaluation.summary import publish_summary, summarize

    folder = runs[0].path.parent
    summary = summarize(runs[0].job.name, runs)
    if summary["seeds"]:
        publish_summary(folder, summary)
    lacking = {*summary["failed"], *summary["untested"]}
    told = [f"seed {run.seed} ({why(folder, index)})" for index, run in enumerate(runs)
            if run.seed in lacking]  # fmt: skip
    if told:
        raise TextassayError(
            f"{len(told)} of {len(runs)} seeds have no result: {'; '.join(told)}. Submit the job "
            "again: what is finished is left alone."
        )


def why(folder: Path, index: int) -> str:
    """The error in the newest log of an array's element, and where the log is."""
    logs = sorted(folder.glob(LOGS.format(index=index)), key=lambda log: log.stat().st_mtime)
    if not logs:
        return f"no log in {folder}"
    text = logs[-1].read_text(encoding="utf-8", errors="replace")
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    return f"{errors[-1]} In {logs[-1]}" if errors else f"see {logs[-1]}"


if __name__ == "__main__":
    main()
