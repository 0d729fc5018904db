"""Cells that a spreadsheet would take for a formula: it may run it, and send what it reads away."""

import re
from pathlib import Path

from textassay.errors import UsageError

# As OWASP lists them, and their full-width forms, which Excel takes for the same.
FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")
NUMBER = re.compile(r"\s*[+-]?(\d+([.,]\d+)*|[.,]\d+)([eE][+-]?\d+)?\s*%?\s*")
DELIMITED = (".csv", ".tsv")


def escape_formula(cell: str | None) -> str | None:
    """The cell as a spreadsheet shows it and computes nothing: `'` before what begins a formula.

    Numbers, which compute nothing, stay as they are.
    """
    if cell and FORMULA.match(cell) and not NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def refuse_escaping(output: Path | None) -> None:
    """UsageError for an output that no spreadsheet opens as a table of cells."""
    if output is None or output.suffix.lower() not in DELIMITED:
        where = "standard output" if output is None else str(output)
        raise UsageError(
            f"--escape_formulas: is for an --output that ends in .csv or .tsv, and this is "
            f"{where}; leave it out."
        )
