"""Make of an artifact what is shipped: one merged model, ONNX, or ONNX in INT8."""

from pathlib import Path
from typing import Any

import click

from textassay.config.reading_flags import label_options, reading_options
from textassay.config.user_path import UserPath
from textassay.console import SPELLING, Command, reports_errors

FORMS = click.Choice(["merged", "onnx", "onnx-int8"])


@click.command(cls=Command, context_settings=SPELLING)
@click.argument("model")
@click.option("--to", "form", type=FORMS, required=True, help="what to make")
@click.option("--output_dir", type=UserPath(), help="[default: in the run, or beside]")
@click.option("--base_model_path", help="an adapter's base, where it moved")
@click.option(
    "--data_path", help="rows to compare and judge on [default: the run's validation rows]"
)
@click.option("--data_name", help="the same: a data set of data/catalog, by its name")
@click.option("--text_column", help="the column of the text; several, by commas, are joined")
@click.option("--label_column", help="the column that holds the label")
@click.option("--save_bin", is_flag=True, help="merged: also pytorch_model.bin")
@click.option("--static", is_flag=True, help="onnx-int8: measure scales on training rows")
@click.option(
    "--reduce_range", is_flag=True, help="onnx-int8: weights of 7 bits, for CPUs without VNNI"
)
@click.option(
    "--accept_unproven", is_flag=True, help="onnx-int8: ship though too few rows judge it"
)
@click.option("--force", is_flag=True, help="replace an export that is there")
@reading_options
@label_options
@reports_errors
def main(
    model: str, form: str, output_dir: Path | None, base_model_path: str | None,
    data_path: str | None, data_name: str | None, text_column: str | None,
    label_column: str | None, save_bin: bool, static: bool, reduce_range: bool,
    accept_unproven: bool, force: bool, reading: dict[str, Any],
) -> None:  # fmt: skip
    """Export MODEL (a run, an artifact, a hub name) and verify the result in a fresh process.

    It is held to MODEL on real rows, and not written where it falls short (exit code 3, with the
    figures).
    """
    _refuse_strangers(form, save_bin=save_bin, static=static, reduce_range=reduce_range,
                      accept_unproven=accept_unproven)  # fmt: skip
    from textassay.evaluation.compare import other_data
    from textassay.exporting.export import Wanted, export
    from textassay.exporting.graphs.int8 import Int8

    data = other_data(data_path, data_name, text_column, label_column, reading)
    export(
        Wanted(
            model, form, output_dir, base_model_path, data, Int8(static, reduce_range),
            accept_unproven, save_bin, force,
        )
    )  # fmt: skip


def _refuse_strangers(form: str, **flags: bool) -> None:
    """A flag that does nothing for this form is a mistake."""
    owners = {"save_bin": "merged"}
    for flag, given in flags.items():
        owner = owners.get(flag, "onnx-int8")
        if given and form != owner:
            raise click.UsageError(f"--{flag} goes with --to {owner}.")


if __name__ == "__main__":
    main()
