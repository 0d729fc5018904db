"""The picture of a comparison: figures with intervals, and the change of F1 by label."""

import textwrap
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from textassay.console import counted
from textassay.evaluation.compare import Comparison, Side
from textassay.evaluation.differences import ClassChange
from textassay.evaluation.fonts import LATIN, families, plain_text
from textassay.evaluation.metrics import HEADLINE, Score
from textassay.evaluation.plots import ACCENT, INK, SECOND

PALE = "#7b8794"
MARKS = {"accuracy": ("o", INK, -0.16), "macro_f1": ("s", ACCENT, 0.16)}
MOST_LABELS = 40
LONGEST_NAME = 30


@plain_text()
def draw_comparison(comparison: Comparison) -> Figure:
    """Both sides and the baselines on the left, the labels in their order on the right."""
    systems, classes = _systems(comparison), _most_changed(comparison.found.classes)
    own, other = 0.4 + 0.72 * len(systems), 0.4 + 0.36 * len(classes)
    height = max(own, other)
    layout = ConstrainedLayoutEngine(h_pad=0.1, wspace=0.04)
    figure = Figure(figsize=(12, height + 1.5), layout=layout)
    grid = figure.add_gridspec(2, 2, height_ratios=(own, max(height - own, 0.01)))
    left, right = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[:, 1])
    _draw_systems(left, systems)
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.32 / own), ncols=2, frameon=False)
    title = f"{comparison.selection.title}, {counted(len(comparison.selection.table), 'row')}"
    left.set_title(title if families(title) else title.rpartition(", ")[2])
    left.title.set_fontfamily(families(title) or [LATIN])
    names, note = _label_names(comparison.found.classes, classes)
    _draw_classes(right, names, [one.f1_gain for one in classes])
    right.set_title("change of F1 by label, A - B (rows of the label)")
    for axes in (left, right):
        _tidy(axes)
    verdict = textwrap.fill(comparison.verdict(), 110)
    figure.suptitle(verdict, x=0.01, ha="left", fontsize=12.5, fontweight="bold", color=INK)
    figure.supxlabel(_footer(comparison, note), x=0.01, ha="left", fontsize=8.5, color=INK)
    return figure


def _systems(comparison: Comparison) -> list[tuple[str, dict[str, Score], bool]]:
    """(name, scores, whether the figures mean something) of each line on the left."""
    sides = [(_side_name(side), side.evaluation.scores, not side.contender.has_random_head)
             for side in (comparison.a, comparison.b)]  # fmt: skip
    return sides + [(one.name, one.scores, True) for one in comparison.a.baselines]


def _side_name(side: Side) -> str:
    name = side.contender.name
    if side.contender.is_untuned:
        return f"{side.letter}: {name.replace(' (', chr(10) + '(')}"
    short = "/".join(PurePath(name).parts[-2:])
    if families(short) is None:
        return side.letter
    return (
        f"{side.letter}: {short if len(short) <= LONGEST_NAME else '…' + short[1 - LONGEST_NAME :]}"
    )


def _draw_systems(axes: Any, systems: Sequence[tuple[str, dict[str, Score], bool]]) -> None:
    edges = []
    for place, (_, scores, is_meant) in enumerate(systems):
        for metric in HEADLINE:
            mark, color, offset = MARKS[metric]
            color = color if is_meant else PALE
            low, value, high = _interval(
                axes, place + offset, scores[metric], mark, color, is_meant
            )
            where = {"xy": (high, place + offset), "xytext": (8, 0), "va": "center"}
            axes.annotate(f"{value:.3f}", textcoords="offset points", color=color, size=9, **where)
            edges += [low, high]
    names = [name for name, *_ in systems]
    axes.set_yticks(range(len(systems)), names, fontfamily=families("".join(names)))
    width = max(max(edges) - min(edges), 0.2)
    axes.set_xlim(max(0, max(edges) - 1.06 * width), max(edges) + 0.12 * width)
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= 1.001])
    axes.set_xlim(max(0, max(edges) - 1.06 * width), max(edges) + 0.12 * width)
    axes.set_ylim(-0.55, len(systems) - 0.45)
    for metric in HEADLINE:
        mark, color, _ = MARKS[metric]
        axes.plot([], [], mark, color=color, label=metric, ms=6)


def _draw_classes(axes: Any, names: Sequence[str], gains: Sequence[Score]) -> None:
    axes.axvline(0, color=INK, lw=1)
    widest = 0.05
    for place, gain in enumerate(gains):
        low, high = gain.low or 0.0, gain.high or 0.0
        color = ACCENT if low > 0 else SECOND if high < 0 else PALE
        _interval(axes, place, gain, "o", color, True)
        widest = max(widest, abs(low), abs(high))
    axes.set_yticks(range(len(names)), names, fontfamily=families("".join(names)))
    axes.set_xlim(-1.08 * widest, 1.08 * widest)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("B is better   ←   0   →   A is better", color=INK, fontsize=9)


def _interval(
    axes: Any, place: float, score: Score, mark: str, color: str, is_filled: bool
) -> tuple[float, float, float]:
    """Draw a figure with its interval; low end, figure, high end."""
    low, value, high = score.low or 0.0, score.value or 0.0, score.high or 0.0
    axes.plot([low, high], [place, place], color=color, lw=2, solid_capstyle="round")
    inside = color if is_filled else "white"
    axes.plot(value, place, mark, color=color, mfc=inside, ms=6.5, zorder=3)
    return low, value, high


def _tidy(axes: Any) -> None:
    axes.title.set(fontsize=11, color=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(axis="x", alpha=0.25)
    axes.invert_yaxis()


def _most_changed(classes: Sequence[ClassChange]) -> list[ClassChange]:
    """The labels that have rows; of very many those whose F1 changes most. In their order."""
    present = [one for one in classes if one.rows]
    ranked = sorted(present, key=lambda one: -abs(one.f1_gain.value or 0))[:MOST_LABELS]
    return [one for one in present if one in ranked]


def _label_names(
    every: Sequence[ClassChange], shown: Sequence[ClassChange]
) -> tuple[list[str], str]:
    """What stands beside each label's line, and what must be said about it."""
    left_out = f"{len(shown)} of {len(every)} labels: those whose F1 changes most. "
    note = left_out if len(shown) == MOST_LABELS < len(every) else ""
    names = [one.label for one in shown]
    if families("".join(names)) is None:
        names = [str(every.index(one)) for one in shown]
        note += "Labels by number: no font on this machine has all their characters. "
    short = [
        name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in names
    ]
    return [f"{name} ({one.rows:,})" for name, one in zip(short, shown, strict=True)], note


def _footer(comparison: Comparison, note: str) -> str:
    level = f"{comparison.settings.confidence:.0%}"
    sentences = [f"Lines are {level} intervals, those of changes paired; grey: it holds 0. {note}"]
    if len(comparison.found.classes) > 5:
        sentences.append("Of many labels some leave 0 by chance. ")
    if comparison.b.contender.is_untuned:
        sentences.append(f"B is an {comparison.b.contender.title}.")
    return textwrap.fill("".join(sentences).strip(), 165)
