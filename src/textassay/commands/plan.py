"""Plan jobs: parameters, memory, disk, time and the line that submits them, before they start."""

from pathlib import Path
from typing import Any

import click

from textassay.config.flags import batch_options
from textassay.config.user_path import UserPath


def plan(
    memory: str | None, world_size: int | None, measure: bool, json_file: Path | None, **given: Any
) -> None:
    """Say what each of JOB_FILES needs: any flag of the training scripts changes the job.

    Needs the base's config.json; neither its weights nor a GPU. Without a job file:
    jobs/quickstart.yaml.
    """

    once = ("seeds", "seed", "output_dir")  # which launchers get one by one, submit.sh at once
    seeds_and_folder = [f"--{name}={given[name]}" for name in once if given[name] is not None]

    def plan_them(runs, overrides):  # type: ignore[no-untyped-def]
        from textassay.planning.show import plan_jobs

        plan_jobs(runs, overrides + seeds_and_folder, memory, world_size, measure, json_file)

    callback = batch_options(plan_them).callback
    assert callback
    callback(**given)


main = batch_options(plan)
main.callback = plan
main.params += [
    click.Option(["--memory"], help="of a device, as 24GB: what is the largest batch that fits?"),
    click.Option(["--world_size"], type=click.IntRange(min=1),
                 help="processes [default: as many as the launcher starts]"),
    click.Option(["--measure"], is_flag=True, help="take a few steps here, to tell the time"),
    click.Option(["--json", "json_file"], type=UserPath(allow_dash=True),
                 help="write the plans as JSON; - prints them instead"),
]  # fmt: skip

if __name__ == "__main__":
    main()
