"""Write a clean copy of a file of texts and labels, and say what was done to it."""

import json
from pathlib import Path
from typing import Any

import click

from textassay.config.reading_flags import reading_options
from textassay.config.user_path import UserPath
from textassay.console import SPELLING, Command, reports_errors

FILE = UserPath()
LABEL_TYPES = click.Choice(["auto", "category", "number"])
CONFLICTS = click.Choice(["keep", "drop", "majority"])


@click.command(cls=Command, context_settings=SPELLING)
@click.argument("source", metavar="INPUT", type=FILE)
@click.option("--output", type=FILE, required=True, help="csv, tsv, json, jsonl or parquet")
@click.option("--text_column", help="the column that holds the text")
@click.option("--label_column", help="the column that holds the label")
@click.option("--labels", help="the classes, by commas: they count as they are written, also none")
@click.option("--label_type", type=LABEL_TYPES, help="category: labels as they are written")
@click.option("--normalize_labels", is_flag=True, help="labels that look alike are made one")
@click.option("--conflicts", type=CONFLICTS, help="texts with several labels [default: keep]")
@click.option("--keep_duplicates", is_flag=True, help="keep rows with text and label of another")
@click.option("--mask_emoticons", is_flag=True, help="take [smile] and its like out of the texts")
@click.option("--report", type=FILE, help="write the report as JSON")
@click.option("--changes", type=FILE, help="write one line of JSON for every row touched")
@click.option("--escape_formulas", is_flag=True, help="csv, tsv: ' before =, +, - and @ in cells")
@click.option("--force", is_flag=True, help="replace files that are there")
@reading_options
@reports_errors
def main(
    source: Path, output: Path, text_column: str | None, label_column: str | None,
    labels: str | None, label_type: str | None, normalize_labels: bool,
    conflicts: str | None, keep_duplicates: bool, mask_emoticons: bool,
    report: Path | None, changes: Path | None, escape_formulas: bool, force: bool,
    reading: dict[str, Any],
) -> None:  # fmt: skip
    """Write a clean copy of INPUT: texts repaired, rows without use left out, all of it reported.

    INPUT itself is never written to. What is repaired stands in docs/your-data.md.
    """
    from textassay.console import warn
    from textassay.data import tidy_report
    from textassay.data.columns import find_columns, note_columns
    from textassay.data.formulas import refuse_escaping
    from textassay.data.label_values import LabelRules
    from textassay.data.options import ReadOptions
    from textassay.data.read import read_file
    from textassay.data.tidy import Choices, refuse_doubtful_letters, refuse_joined, tidy
    from textassay.files import replacing, write_json, write_text

    if escape_formulas:
        refuse_escaping(output)
    tidy_report.refuse_outputs(source, output, [path for path in (report, changes) if path], force)
    rows = read_file(source, ReadOptions.of_flags(reading))
    for note in rows.notes:
        warn(f"{source}: {note}")
    refuse_doubtful_letters(rows)
    names = find_columns(rows, text_column, label_column)
    refuse_joined(names, rows)
    for note in note_columns(rows, names, text_column):
        warn(f"{source}: {note}")
    rules = LabelRules(
        label_type=label_type or "auto",
        normalize=normalize_labels,
        known=[name.strip() for name in labels.split(",")] if labels else [],
    )
    choices = Choices(conflicts or "keep", keep_duplicates, mask_emoticons, rules)
    tidied = tidy(rows, names, choices)
    for note in tidied.notes:
        warn(note)
    done = tidy_report.report(tidied)
    with replacing(output) as scratch:  # the last to appear
        tidy_report.write_rows(tidied, scratch, escape_formulas)
        if report:
            write_json(report, done)
        if changes:
            lines = (json.dumps(row._asdict(), ensure_ascii=False) for row in tidied.touched)
            write_text(changes, "".join(f"{line}\n" for line in lines))
    tidy_report.print_report(done, output)


if __name__ == "__main__":
    main()
