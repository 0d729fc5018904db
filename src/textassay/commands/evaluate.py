"""Evaluate whatever can predict: a run, an adapter, a model, a ZeRO checkpoint, a hub name."""

from pathlib import Path
from typing import Any

import click

from textassay.config.reading_flags import label_options, reading_options
from textassay.config.user_path import UserPath
from textassay.console import SPELLING, Command, reports_errors
from textassay.stopping import heeding_signals

FOLDER = UserPath()


@click.command(cls=Command, context_settings=SPELLING)
@click.argument("artifacts", nargs=-1, metavar="ARTIFACT...")
@click.option("--checkpoint_dir", help="the same as ARTIFACT")
@click.option("--data_path", help="other rows: a file (used whole), a directory or a hub name")
@click.option("--data_name", help="other rows: a data set of data/catalog, by its name")
@click.option("--text_column", help="the column of the text; several, by commas, are joined")
@click.option("--label_column", help="the column that holds the label")
@click.option("--output_dir", type=FOLDER, help="where the files go [default: in or beside it]")
@click.option("--base_model_path", help="the base, where it moved, or a config for a checkpoint")
@click.option("--seed", type=int, help="which run, where ARTIFACT is a job's folder of runs")
@click.option("--model_max_length", type=click.IntRange(min=1), help="tokens a text is cut to")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--batch_size", type=click.IntRange(min=1), help="[default: the run's, else 64]")
@click.option("--keep_consolidated", is_flag=True, help="keep a checkpoint's weights in the cache")
@click.option("--force", is_flag=True, help="replace results that are there")
@click.option("--skip_existing", is_flag=True, help="leave alone what has its results")
@reading_options
@label_options
@reports_errors
def main(
    artifacts: tuple[str, ...], checkpoint_dir: str | None, data_path: str | None,
    data_name: str | None, text_column: str | None, label_column: str | None,
    output_dir: Path | None, base_model_path: str | None, seed: int | None,
    model_max_length: int | None, device: str, batch_size: int | None, keep_consolidated: bool,
    force: bool, skip_existing: bool, reading: dict[str, Any],
) -> None:  # fmt: skip
    """Evaluate each ARTIFACT: a run, adapter, model, ZeRO checkpoint, a job's folder, a hub name.

    The rows are the test split of what it was trained on, unless flags name others. The same files
    as a run's are written: into a run that has no results, else into a folder beside.
    """
    places = [*artifacts, *([checkpoint_dir] if checkpoint_dir else [])]
    if not places:
        raise click.UsageError("Name an ARTIFACT.")
    if output_dir and len(places) > 1:
        raise click.UsageError("--output_dir is one folder, and several places were named.")
    from textassay.evaluation.compare import other_data
    from textassay.evaluation.folders import Request
    from textassay.evaluation.outcome import evaluate_each

    data = other_data(data_path, data_name, text_column, label_column, reading)
    requests = [
        Request(
            place, data, output_dir, base_model_path, seed, model_max_length, device, batch_size,
            keep_consolidated, force, skip_existing,
        )
        for place in places
    ]  # fmt: skip
    with heeding_signals():
        evaluate_each(requests)


if __name__ == "__main__":
    main()
