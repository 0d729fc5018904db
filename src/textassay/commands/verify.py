"""Hold an artifact to its hallmark: files, labels, base, and the logits of its probe rows."""

from pathlib import Path

import click

from textassay.config.user_path import UserPath
from textassay.console import Command, reports_errors, tell


@click.command(cls=Command)
@click.argument("folder", type=UserPath())
@click.option("--base_model_path", "--base-model-path", help="the adapter's base, where it moved")
@reports_errors
def main(folder: Path, base_model_path: str | None) -> None:
    """Verify the artifact in FOLDER, or a run's. Exit code 3 and the reason if it does not hold."""
    from textassay.artifacts.hallmark import verify
    from textassay.config.runs import artifact_in

    tell(f"verified  {verify(artifact_in(folder), base_model_path)}")


if __name__ == "__main__":
    main()
