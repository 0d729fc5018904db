"""Distil a teacher into a smaller student: one job, one seed, one run."""

from typing import TYPE_CHECKING

from textassay.config.flags import student_options

if TYPE_CHECKING:
    from textassay.config.runs import Run


@student_options
def main(run: "Run") -> None:
    """Train a student on the answers of TEACHER, from JOB_FILE or from flags alone.

    TEACHER is a run, an artifact or a classifier's hub name. Name the student with --student, or
    cut it out of the teacher with --student_layers. It has the rows of the teacher's run unless
    told others, and is a run like any other.
    """
    from textassay.training.run import carry_out

    carry_out(run)


if __name__ == "__main__":
    main()
