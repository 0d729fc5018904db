"""Submit a job to Slurm."""

import os
import sys

import click

from textassay.console import SPELLING, Command, reports_errors
from textassay.files import project_root


class _UnreadArguments(Command):
    """Takes all arguments as they are: most are sbatch's, and `--` stands between two kinds."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = args[: args.index("--")] if "--" in args else args
        if "--help" in own or not args:
            return super().parse_args(ctx, ["--help"])
        ctx.params["arguments"] = tuple(args)
        return []


@click.command(cls=_UnreadArguments, context_settings=SPELLING)
@click.argument("arguments", nargs=-1, metavar="JOB_FILE [SBATCH_OPTIONS]... [-- SETTINGS...]")
@reports_errors
def main(arguments: tuple[str, ...]) -> None:
    """Submit the seeds of JOB_FILE to Slurm as an array, and their summary behind it.

    Options of sbatch win over the job's `resources`; SETTINGS are those of `textassay train`. The
    same as `bash slurm/submit.sh`.
    """
    environment = {"TEXTASSAY_SLURM_PYTHON": sys.executable, **os.environ}
    script = str(project_root() / "slurm" / "submit.sh")
    os.execvpe("bash", ["bash", script, *arguments], environment)


if __name__ == "__main__":
    main()
