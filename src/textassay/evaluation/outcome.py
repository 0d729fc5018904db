"""What the standalone evaluator found, on the terminal."""

from collections.abc import Sequence

from rich.markup import escape

from textassay.console import INTERRUPTED, alarm, counted, out, reports_errors, table, tell
from textassay.errors import Stopped
from textassay.evaluation.confidences import CALIBRATED
from textassay.evaluation.folders import Request
from textassay.evaluation.metrics import HEADLINE, NAMES
from textassay.evaluation.report import show, show_change, verdict
from textassay.evaluation.standalone import Outcome, evaluate_standalone


def evaluate_each(requests: Sequence[Request]) -> None:
    """Evaluate one after another and print what is found; one that fails does not stop the others.

    SystemExit at the end, with the exit code of the first that failed, or at once when stopped.
    """
    first = 0
    for request in requests:
        try:
            _evaluate(request)
        except SystemExit as ended:
            code = int(ended.code or 0)
            if code in (INTERRUPTED, Stopped.exit_code):  # all of it is meant
                raise
            first = first or code
    if first:
        raise SystemExit(first)


@reports_errors
def _evaluate(request: Request) -> None:
    outcome = evaluate_standalone(request)
    if outcome:
        print_outcome(outcome)


def print_outcome(outcome: Outcome) -> None:
    """The figures beside the baselines', the verdict, notes, and where the report is."""
    found, baselines = outcome.evaluation, outcome.baselines
    if outcome.facts.alarm:
        alarm(outcome.facts.alarm)
    rows = [
        ["the model", *(show(found.scores[name]) for name in _SHOWN)],
        *([one.name, *(show(one.scores[name]) for name in _SHOWN)] for one in baselines),
    ]
    for sentence in outcome.facts.trust:
        tell(sentence)
    level = f"{found.settings.confidence:.0%}"
    title = f"{outcome.facts.title}: {counted(len(found.truth), 'row')}, {level} intervals"
    out().print(table(escape(title), ["", *_SHOWN], rows))
    if found.calibrated:
        changes = (f"{name} {show_change(found.calibrated, name)}" for name in CALIBRATED)
        tell(f"Calibrated, temperature {found.calibrated.temperature:.4g}: {', '.join(changes)}.")
    tell(verdict(baselines, len(found.truth), outcome.facts.without_baselines))
    for note in outcome.notes:
        tell(f"note: {note}")
    tell(f"report: {outcome.folder / 'report.html'}")


_SHOWN = (*HEADLINE, *(name for name in NAMES if name in ("log_loss", "ece")))
