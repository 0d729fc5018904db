"""Examine a directory with a model: what it is, what is wrong with it, what to do."""

from pathlib import Path

import click

from textassay.config.user_path import UserPath
from textassay.console import SPELLING, Command, reports_errors


@click.command(cls=Command, context_settings=SPELLING)
@click.argument("folder", metavar="DIR", type=UserPath())
@click.option("--base_model_path", help="the adapter's base, or the config of a ZeRO checkpoint")
@click.option("--json", "as_json", is_flag=True, help="print what was found as JSON")
@reports_errors
def main(folder: Path, base_model_path: str | None, as_json: bool) -> None:
    """Examine the run, adapter, model or ZeRO checkpoint in DIR, ours or anybody's.

    Exit code 3 where something would make predictions wrong or impossible; 0 with notes alone.
    """
    from textassay.artifacts.doctor.examine import examine, refuse_wrong
    from textassay.artifacts.doctor.findings import print_diagnosis

    diagnosis = examine(folder, base_model_path)
    print_diagnosis(diagnosis, as_json)
    refuse_wrong(diagnosis)


if __name__ == "__main__":
    main()
