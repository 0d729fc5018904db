"""A comparison shown: tables on the terminal, and three files that appear all or none."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from textassay.config.runs import artifact_in
from textassay.console import counted, out, table, tell
from textassay.errors import UsageError
from textassay.evaluation.compare import Comparison, Side
from textassay.evaluation.comparison_plot import draw_comparison
from textassay.evaluation.markdown import plain_markdown
from textassay.evaluation.metrics import HEADLINE, Score
from textassay.evaluation.report import show, show_gain, verdict
from textassay.files import replacing

JSON, MARKDOWN, PICTURE = "comparison.json", "comparison.md", "comparison.png"
MOST_SHIFTS = 10


@dataclass(frozen=True)
class Sheet:
    """A table of texts, for the terminal and for Markdown."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def refuse_output(folder: Path | None, artifacts: Sequence[Path], force: bool) -> None:
    """UsageError where `folder` cannot take the files, or holds some and `force` is not given.

    Nor may it lie in one of the artifacts, whose hallmark would not hold any more.
    """
    if folder is None:
        return
    for artifact in artifacts:
        own = artifact_in(artifact)
        if folder.resolve().is_relative_to(own.resolve()):
            raise UsageError(
                f"{folder}: lies in the artifact {own}, whose files are stamped; name another "
                "--output_dir."
            )
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; name another --output_dir.")
    there = [name for name in (JSON, MARKDOWN, PICTURE) if (folder / name).exists()]
    if there and not force:
        raise UsageError(
            f"{folder}: {there[0]} is there already; name another --output_dir, or replace it "
            "with --force."
        )


def print_comparison(comparison: Comparison) -> None:
    """Tables, verdict and notes on standard output: the notes belong to the result."""
    from rich.markup import escape

    for sheet in sheets(comparison):
        rows = [[escape(cell) for cell in row] for row in sheet.rows]
        out().print(table(escape(sheet.title), [escape(name) for name in sheet.columns], rows))
    for sentence in [*sentences(comparison), *(f"note: {note}" for note in comparison.notes)]:
        tell(sentence)


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """`comparison.json`, `comparison.md` and `comparison.png` in `folder`, all three or none."""
    content = json.dumps(comparison.to_json(), indent=2, ensure_ascii=False)
    with (
        replacing(folder / JSON) as data,
        replacing(folder / MARKDOWN) as page,
        replacing(folder / PICTURE) as picture,
    ):
        data.write_text(content + "\n", encoding="utf-8")
        page.write_text(markdown(comparison), encoding="utf-8")
        draw_comparison(comparison).savefig(picture, dpi=130, format="png")


def sheets(comparison: Comparison) -> list[Sheet]:
    """Figures, classes, and shifts where there are any."""
    made = [_figures(comparison), _classes(comparison)]
    return [*made, _shifts(comparison)] if comparison.found.shifts else made


def sentences(comparison: Comparison) -> Iterator[str]:
    """The verdict first, then accuracy, then how each side stands to the baselines."""
    rows = len(comparison.selection.table)
    yield comparison.verdict()
    yield comparison.accuracy_sentence()
    if not comparison.found.shifts:
        yield "Both give every row the same label."
    for side in (comparison.a, comparison.b):
        if side.baselines:
            yield f"{side.letter}: {verdict(side.baselines, rows)}"


def markdown(comparison: Comparison) -> str:
    """The content of `comparison.md`."""
    parts = ["# A against B", *map(plain_markdown, sentences(comparison))]
    if comparison.notes:
        parts.append("\n".join(f"- {plain_markdown(note)}" for note in comparison.notes))
    parts.append(f"![The figures of both, and the change of F1 by label]({PICTURE})")
    for sheet in sheets(comparison):
        parts += [f"## {plain_markdown(sheet.title)}", _markdown_table(sheet)]
    return "\n\n".join(parts) + "\n"


def _title(comparison: Comparison) -> str:
    level, rows = f"{comparison.settings.confidence:.0%}", len(comparison.selection.table)
    return f"Figures: {comparison.selection.title}, {counted(rows, 'row')}, {level} intervals"


def _figures(comparison: Comparison) -> Sheet:
    def cells(name: str, scores: dict[str, Score]) -> list[str]:
        return [name, *(show(scores[metric]) for metric in HEADLINE)]

    def named(side: Side) -> str:
        return f"{side.letter}  {side.contender.title}".replace(": its", ":\n   its")

    sides = (comparison.a, comparison.b)
    rows = [cells(named(side), side.evaluation.scores) for side in sides]
    gain = comparison.found.gain
    rows.append(["gain (A - B)", *(show_gain(gain[metric]) for metric in HEADLINE)])
    rows += [cells(baseline.name, baseline.scores) for baseline in comparison.a.baselines]
    return Sheet(_title(comparison), ["", *HEADLINE], rows)


def _classes(comparison: Comparison) -> Sheet:
    rows = [
        [one.label, f"{one.rows:,}", *(f"{value:.3f}" for value in one.f1), show_gain(one.f1_gain),
         *(f"{value:.3f}" for value in one.recall), show_gain(one.recall_gain)]
        for one in comparison.found.classes
    ]  # fmt: skip
    columns = ["label", "rows", "f1 A", "f1 B", "gain", "recall A", "recall B", "gain"]
    return Sheet("By label", columns, rows)


def _shifts(comparison: Comparison) -> Sheet:
    found = comparison.found.shifts
    rows = [
        [one.before, one.after,
         *(f"{count:,}" for count in (one.rows, one.became_right, one.became_wrong,
                                      one.stayed_wrong))]
        for one in found[:MOST_SHIFTS]
    ]  # fmt: skip
    if len(found) > MOST_SHIFTS:
        rows.append(_sums(f"{len(found) - MOST_SHIFTS} more", found[MOST_SHIFTS:]))
    rows.append(_sums("all", found))
    columns = ["label of B", "label of A", "rows", "became right", "became wrong", "stayed wrong"]
    return Sheet("Rows whose label changes from B to A", columns, rows)


def _sums(name: str, found: Sequence) -> list[str]:
    counts = ("rows", "became_right", "became_wrong", "stayed_wrong")
    return [name, "", *(f"{sum(getattr(one, count) for one in found):,}" for count in counts)]


def _markdown_table(sheet: Sheet) -> str:
    lines = [sheet.columns, ["---", *["---:"] * (len(sheet.columns) - 1)], *sheet.rows]
    return "\n".join(f"| {' | '.join(map(plain_markdown, line))} |" for line in lines)
