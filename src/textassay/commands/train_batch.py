"""Carry out jobs with all their seeds: what `train.sh` starts."""

from textassay.config.flags import batch_options
from textassay.stopping import heeding_signals


@batch_options
def main(runs, overrides):  # type: ignore[no-untyped-def]
    """Carry out each of JOB_FILES with all its seeds, one process a run, and sum them up.

    A data file or a folder may stand for a job: it is trained on with default settings and three
    seeds. Without any: jobs/quickstart.yaml. --output_dir stands for `runs`.
    """
    from textassay.training.batch import run_jobs

    with heeding_signals():
        run_jobs(runs, overrides)


if __name__ == "__main__":
    main()
