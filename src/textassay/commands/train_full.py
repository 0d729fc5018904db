"""Fine-tune every weight of a classifier: one job, one seed, one run."""

from typing import TYPE_CHECKING

from textassay.config.flags import run_options

if TYPE_CHECKING:
    from textassay.config.runs import Run


@run_options(launcher="full")
def main(run: "Run") -> None:
    """Fine-tune every weight of a classifier, from JOB_FILE or from flags alone."""
    from textassay.training.run import carry_out

    carry_out(run)


if __name__ == "__main__":
    main()
