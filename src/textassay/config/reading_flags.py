"""The flags that say how a file is written, for every command that reads one."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

# Names and descriptions are those of `DataSection`, which a test compares: importing pydantic for
# `--help` would take longer than `--help` itself.
FLAGS = {
    "column_names": "all columns, by commas, of a file without a header line",
    "encoding": "the encoding of text files [default: found out]",
    "delimiter": "what separates columns: a character, or tab [default: found out]",
    "quotechar": "what encloses fields: a character, or none [default: found out]",
    "escapechar": "what goes before a quote inside a field: a character, or none",
    "skip_rows": "lines above the header that are no rows",
}


def reading_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags to a command; `function` gets those that were used as the dict `reading`."""

    @wraps(function)
    def collected(**given: Any) -> Any:
        told = {name: given.pop(name) for name in FLAGS}
        reading = {name: value for name, value in told.items() if value is not None}
        if "column_names" in reading:
            reading["column_names"] = [n.strip() for n in reading["column_names"].split(",")]
        return function(reading=reading, **given)

    for name, description in reversed(FLAGS.items()):
        kind = click.IntRange(min=0) if name == "skip_rows" else None
        collected = click.option(f"--{name}", type=kind, help=description)(collected)
    return collected


def label_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags for labelled rows, below `reading_options`, whose dict gets them.

    They say what labels mean, and what becomes of rows that cannot be used.
    """

    @wraps(function)
    def collected(reading: dict[str, Any], **given: Any) -> Any:
        told = {name: given.pop(name) for name in ("label_type", "normalize_labels", "on_bad_rows")}
        return function(reading=reading | {k: v for k, v in told.items() if v}, **given)

    kinds = click.Choice(["auto", "category", "number"])
    collected = click.option(
        "--label_type", type=kinds, help="category: labels as they are written [default: the run's]"
    )(collected)
    collected = click.option(
        "--on_bad_rows", type=click.Choice(["error", "skip"]),
        help="skip: leave out rows that cannot be used, and count them [default: error]",
    )(collected)  # fmt: skip
    return click.option("--normalize_labels", is_flag=True, help="labels that look alike are one")(
        collected
    )
