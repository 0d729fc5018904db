"""Predict: texts on the command line, typed, or piped, and whole files of them."""

from pathlib import Path
from typing import Any

import click

from textassay.config.reading_flags import reading_options
from textassay.config.user_path import UserPath
from textassay.console import SPELLING, Command, reports_errors

FILE = UserPath(allow_dash=True)
AT_LEAST_0, SHARE = click.IntRange(min=0), click.FloatRange(0, 1)
BACKENDS = click.Choice(["model", "merged", "onnx", "onnx-int8"])


@click.command(cls=Command, context_settings=SPELLING)
@click.argument("model")
@click.option("--text", "texts", multiple=True, help="a text; may be given several times")
@click.option("--interactive", is_flag=True, help="answer what is typed, until quit or Ctrl-D")
@click.option("--demo", is_flag=True, help="answer a few examples")
@click.option("--input", "source", type=FILE, help="csv, tsv, json, jsonl, parquet; - for a pipe")
@click.option("--output", type=FILE, help="the file of answers, in any of these formats; or -")
@click.option("--text_column", help="the column of the text; several, by commas, are joined")
@click.option("--on_bad_rows", type=click.Choice(["error", "skip"]), default="error",
              help="skip: give rows that cannot be used no answer [default: error]")  # fmt: skip
@click.option("--top_k", type=AT_LEAST_0, help="only so many labels with their probabilities")
@click.option("--threshold", type=SHARE, help="answer `abstain` below this probability")
@click.option("--prefix", default="", help="put before the names of what is answered")
@click.option("--backend", type=BACKENDS, help="a run's artifact [default: the fastest]")
@click.option("--base_model_path", help="the base of an adapter, where it moved")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads [default: all cores]")
@click.option("--escape_formulas", is_flag=True, help="csv, tsv: ' before =, +, - and @ in cells")
@click.option("--force", is_flag=True, help="replace an output that is there")
@reading_options
@reports_errors
def main(
    model: str, texts: tuple[str, ...], interactive: bool, demo: bool, source: Path | None,
    output: Path | None, text_column: str | None, on_bad_rows: str,
    top_k: int | None, threshold: float | None, prefix: str, backend: str | None,
    base_model_path: str | None, device: str, threads: int | None, escape_formulas: bool,
    force: bool, reading: dict[str, Any],
) -> None:  # fmt: skip
    """Let MODEL answer: a run, an artifact of any kind, or a classifier by its hub name.

    Texts come from --text, --interactive, --demo or --input; a killed --input goes on where it was
    when the same command is given again.
    """
    from textassay.data.formulas import refuse_escaping
    from textassay.data.options import ReadOptions
    from textassay.prediction import command
    from textassay.prediction.answers import Choices

    choices = Choices(top_k, threshold, prefix, on_bad_rows == "skip", escape_formulas)
    ask = command.Ask(model, backend, base_model_path, device, threads, choices)
    command.refuse_sources(texts, interactive, demo, source, output)
    command.refuse_reading(list(reading), source)
    if escape_formulas:
        refuse_escaping(output)
    if source is None:
        command.answer_people(ask, texts, interactive)
    elif str(source) == "-":
        command.answer_pipe(ask, text_column, on_bad_rows)
    else:
        options = ReadOptions.of_flags(reading)
        command.answer_file(ask, source, output, text_column, options, on_bad_rows, force)


if __name__ == "__main__":
    main()
