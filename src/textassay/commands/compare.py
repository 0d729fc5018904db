"""Compare two artifacts on the same rows, or one with its untuned base."""

from pathlib import Path
from typing import Any

import click

from textassay.config.reading_flags import label_options, reading_options
from textassay.config.user_path import UserPath
from textassay.console import SPELLING, Command, reports_errors


@click.command(cls=Command, context_settings=SPELLING)
@click.argument("a", type=UserPath())
@click.argument("b", type=UserPath(), required=False)
@click.option("--split", type=click.Choice(["test", "validation"]), help="[default: test]")
@click.option("--data_path", help="other rows: a file (used whole), a directory or a hub name")
@click.option("--data_name", help="other rows: a data set of data/catalog, by its name")
@click.option("--text_column", help="the column of the text; several, by commas, are joined")
@click.option("--label_column", help="the column that holds the label")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--batch_size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--base_model_path", help="the adapters' base, where it moved")
@click.option("--output_dir", type=UserPath(), help="where to write the files")
@click.option("--force", is_flag=True, help="replace a comparison that is there")
@reading_options
@label_options
@reports_errors
def main(
    a: Path, b: Path | None, split: str | None, data_path: str | None, data_name: str | None,
    text_column: str | None, label_column: str | None, device: str, batch_size: int,
    base_model_path: str | None, output_dir: Path | None, force: bool,
    reading: dict[str, Any],
) -> None:  # fmt: skip
    """Compare the artifacts A and B on the same rows; without B, A with its untuned base.

    A and B are runs or their model directories. The rows are the test split of what A was trained
    on, unless flags name others. With --output_dir: comparison.json, comparison.md, comparison.png.
    """
    from textassay.evaluation.compare import compare_artifacts, other_data
    from textassay.evaluation.comparison_report import (
        print_comparison,
        refuse_output,
        write_comparison,
    )

    refuse_output(output_dir, [a, *([b] if b else [])], force)
    data = other_data(data_path, data_name, text_column, label_column, reading)
    comparison = compare_artifacts(a, b, data, split, device, batch_size, base_model_path)
    print_comparison(comparison)
    if output_dir:
        write_comparison(output_dir, comparison)


if __name__ == "__main__":
    main()
