"""What the standalone evaluator found, on the terminal."""

from rich.markup import escape

from textassay.console import out, table, tell
from textassay.evaluation.metrics import CALIBRATED, HEADLINE, NAMES
from textassay.evaluation.report import show, show_change, verdict
from textassay.evaluation.standalone import Outcome


def print_outcome(outcome: Outcome) -> None:
    """The figures beside the baselines', the verdict, notes, and where the report is."""
    found, baselines = outcome.evaluation, outcome.baselines
    rows = [
        ["the model", *(show(found.scores[name]) for name in _SHOWN)],
        *([one.name, *(show(one.scores[name]) for name in _SHOWN)] for one in baselines),
    ]
    level = f"{found.settings.confidence:.0%}"
    title = f"{outcome.title}: {len(found.truth):,} rows, {level} intervals"
    out().print(table(escape(title), ["", *_SHOWN], rows))
    if found.calibrated:
        changes = (f"{name} {show_change(found.calibrated, name)}" for name in CALIBRATED)
        tell(f"Calibrated, temperature {found.calibrated.temperature:.4g}: {', '.join(changes)}.")
    if baselines:
        tell(verdict(baselines, len(found.truth)))
    for note in outcome.notes:
        tell(f"note: {note}")
    tell(f"report: {outcome.folder / 'report.html'}")


_SHOWN = (*HEADLINE, *(name for name in NAMES if name in ("log_loss", "ece")))
