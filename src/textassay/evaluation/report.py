"""Reports for people: a page a run, a page a job, a text file, and tables on the terminal."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from textassay.console import counted
from textassay.evaluation.evaluate import Baseline, Calibrated, Evaluation
from textassay.evaluation.gains import Gain
from textassay.evaluation.metrics import HEADLINE, LOWER_IS_BETTER, NAMES, Score, per_class
from textassay.files import write_text

SWITCHED_OFF = "Baselines were switched off"


@dataclass(frozen=True)
class Facts:
    """What a report says of the evaluated: its head, and what is known of its training.

    `calibration` is a sentence; `validation_calibrated` what it did on the rows it was fitted on.
    `alarm` is what has to be said before anything else.
    `trust` says how far the figures can be believed, `without_baselines` why there are none.
    """

    title: str
    subtitle: str
    notes: list[str]
    provenance: dict[str, str]
    calibration: str
    trained: dict[str, str] | None = None
    validation: dict[str, Score] = field(default_factory=dict)
    validation_rows: int = 0
    validation_calibrated: Calibrated | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    curves: Path | None = None
    alarm: str = ""
    trust: list[str] = field(default_factory=list)
    without_baselines: str = SWITCHED_OFF


def verdict(baselines: Sequence[Baseline], rows: int, without: str = SWITCHED_OFF) -> str:
    """One honest sentence on the strongest baseline, or on why there is none."""
    if not baselines:
        return f"{without}, so nothing says whether tuning was worth it."
    strongest, ahead = _strongest(baselines)
    gap = f"{ahead.figures('macro-F1')}, {counted(rows, 'row')}"
    if ahead.direction > 0:
        return f"Better than {strongest.name} ({gap})."
    if ahead.direction < 0:
        return f"Worse than {strongest.name} ({gap}): this model is not worth its cost."
    return f"No detectable difference from {strongest.name} ({gap})."


def _strongest(baselines: Sequence[Baseline]) -> tuple[Baseline, Gain]:
    """The baseline with the best macro-F1, and how far the model is ahead of it."""
    strongest = max(baselines, key=lambda baseline: baseline.scores["macro_f1"].value or 0)
    return strongest, strongest.ahead["macro_f1"]


def standing(baselines: Sequence[Baseline]) -> str:
    """`better` or `worse` than the strongest baseline, `equal` or `unknown`: for its colour."""
    if not baselines:
        return "unknown"
    return ("equal", "better", "worse")[_strongest(baselines)[1].direction]


def show(score: Score | None) -> str:
    """`0.866 [0.842, 0.889]`"""
    if score is None or score.value is None:
        return "undefined"
    if score.low is None or score.high is None:
        return f"{score.value:.3f}"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"


def show_gain(score: Score) -> str:
    """`+0.119 [+0.033, +0.198]`"""
    return f"{score.value:+.3f} [{score.low:+.3f}, {score.high:+.3f}]"


def show_change(calibrated: Calibrated, name: str) -> str:
    """`0.190 -> 0.071`: a figure before and after calibration."""
    before, after = calibrated.before[name].value, calibrated.after[name].value
    return f"{before:.3f} -> {after:.3f}"


def write_test_summary(
    path: Path, facts: Facts, tuned: Evaluation, baselines: Sequence[Baseline]
) -> None:
    """`test_summary.txt`: headline figures, baselines, the report by class, in plain text."""
    level = f"{tuned.settings.confidence:.0%}"
    first = [*([facts.alarm] if facts.alarm else []), *facts.trust]
    lines = [*first, ""] if first else []
    lines += [
        f"{facts.title}: test, {counted(len(tuned.truth), 'row')}, {level} intervals",
        "",
    ]
    lines += [f"  {name:<20}{show(tuned.scores[name])}" for name in NAMES]
    lines += ["", f"Calibrated: {facts.calibration}."]
    if tuned.calibrated:
        for name, before in tuned.calibrated.before.items():
            change = show_gain(tuned.calibrated.change[name])
            lines.append(f"  {name + ' before':<20}{show(before)}, change {change}")
    lines += ["", verdict(baselines, len(tuned.truth), facts.without_baselines), ""]
    for baseline in baselines:
        figures = ", ".join(f"{name} {show(baseline.scores[name])}" for name in HEADLINE)
        lines.append(f"  {baseline.name}: {figures}")
    names = tuned.labels.names
    width = max(len(name) for name in ("label", *names)) + 2
    lines += ["", f"  {'label':<{width}}precision    recall        f1      rows"]
    for row in per_class(tuned.truth, tuned.predicted, names):
        figures = "".join(f"{row[key]:>10.3f}" for key in ("precision", "recall", "f1"))
        lines.append(f"  {row['label']:<{width - 1}}{figures}{row['rows']:>10,}")
    lines += ["", *[f"  {note}" for note in facts.notes]]
    write_text(path, "\n".join(lines).rstrip() + "\n")


def write_run_report(
    path: Path, facts: Facts, tuned: Evaluation, baselines: Sequence[Baseline]
) -> None:
    """`report.html`: self-contained, pictures included."""
    page = _template("run.html").render(
        facts=facts,
        verdict=verdict(baselines, len(tuned.truth), facts.without_baselines),
        standing=standing(baselines),
        tuned=tuned,
        baselines=baselines,
        names=NAMES,
        lower=LOWER_IS_BETTER,
        headline=HEADLINE,
        classes=per_class(tuned.truth, tuned.predicted, tuned.labels.names),
        calibrations=[
            (split, rows, made)
            for split, rows, made in (
                ("test", len(tuned.truth), tuned.calibrated),
                ("validation", facts.validation_rows, facts.validation_calibrated),
            )
            if made
        ],
        reliability=_embedded(path.parent / "reliability.png"),
        confusion=_embedded(path.parent / "confusion_matrix.png"),
        curves=_embedded(facts.curves) if facts.curves else None,
    )
    write_text(path, page)


def write_job_summary(path: Path, **facts: Any) -> None:
    """`summary.html` of a job."""
    write_text(path, _template("summary.html").render(**facts))


def _template(name: str) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    environment.filters["show"] = show
    environment.filters["show_gain"] = show_gain
    environment.filters["counted"] = counted
    return environment.get_template(name)


def _embedded(path: Path) -> str:
    encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"data:image/png;base64,{encoded}"
