"""Pictures of a run, as PNG: confusion matrix, reliability diagram, learning curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from textassay.evaluation.confidences import ECE_BINS, reliability
from textassay.evaluation.fonts import LATIN, families, plain_text
from textassay.evaluation.metrics import LOWER_IS_BETTER
from textassay.files import replacing

INK, ACCENT, SECOND = "#1f2933", "#0b6e4f", "#c8553d"
MOST_NUMBERED_CELLS = 12


@plain_text()
def plot_confusion(path: Path, matrix: np.ndarray, labels: Sequence[str]) -> None:
    """Rows are true labels, columns predicted ones; colour is the share of the true label."""
    count = len(labels)
    size = min(11.0, 2.6 + 0.55 * count)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.add_subplot()
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Greens", vmin=0, vmax=1)
    names, font = _drawable(labels)
    axes.set_xticks(range(count), names, rotation=45, ha="right", fontfamily=font)
    axes.set_yticks(range(count), names, fontfamily=font)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    small = 9 if count <= MOST_NUMBERED_CELLS else 6
    for row in range(count):
        for column in range(count):
            if matrix[row, column]:
                color = "white" if share[row, column] > 0.6 else INK
                text = f"{int(matrix[row, column])}"
                axes.text(column, row, text, ha="center", va="center", color=color, fontsize=small)
    figure.colorbar(image, ax=axes, label="share of the true label", shrink=0.8)
    _save(figure, path)


def plot_reliability(
    path: Path, truth: np.ndarray, probabilities: Mapping[str, np.ndarray], level: float
) -> None:
    """Accuracy over confidence in the bins of the ECE, and the rows in each bin.

    `probabilities` has one panel a title. Lines through the points are Wilson's intervals of the
    accuracy at `level`.
    """
    figure = Figure(figsize=(0.4 + 3.8 * len(probabilities), 4.6), layout="constrained")
    panels = figure.subplots(
        2, len(probabilities), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1)
    )
    for (upper, lower), (title, each) in zip(panels.T, probabilities.items(), strict=True):
        _draw_reliability(upper, lower, truth, each, level)
        upper.set_title(title, fontsize=11, color=INK)
    panels[0, 0].set_ylabel("accuracy")
    panels[1, 0].set_ylabel("rows")
    _save(figure, path)


def _draw_reliability(
    upper: Any, lower: Any, truth: np.ndarray, probabilities: np.ndarray, level: float
) -> None:
    from scipy.stats import binomtest

    found = reliability(truth, probabilities)
    upper.plot([0, 1], [0, 1], color=INK, lw=1, ls="--")
    for x, accuracy, rows in zip(found.confidence, found.accuracy, found.rows, strict=True):
        test = binomtest(round(accuracy * rows), int(rows))
        low, high = test.proportion_ci(level, method="wilson")
        upper.plot([x, x], [low, high], color=ACCENT, lw=1.2, alpha=0.6)
    upper.plot(found.confidence, found.accuracy, "o", color=ACCENT, ms=5)
    upper.set_xlim(0, 1)
    upper.set_ylim(-0.02, 1.02)
    lower.bar(found.confidence, found.rows, width=0.8 / ECE_BINS, color=SECOND)
    lower.set_xlabel("confidence")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)


def plot_learning_curves(path: Path, history: list[dict[str, Any]], metric: str) -> None:
    """Training and validation loss over the steps, and the metric that picks the checkpoint."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    losses, metrics = figure.subplots(1, 2)
    _curve(losses, history, "loss", INK, "train")
    _curve(losses, history, "eval_loss", SECOND, "validation")
    losses.set_xlabel("optimizer step")
    losses.set_ylabel("loss")
    losses.set_ylim(bottom=0)  # so that a loss which hardly moves looks like one
    losses.legend(frameon=False)
    _curve(metrics, history, f"eval_{metric}", ACCENT, "validation")
    metrics.set_xlabel("optimizer step")
    metrics.set_ylabel(metric)
    _show_whole_range(metrics, metric)
    for axes in (losses, metrics):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    _save(figure, path)


def _curve(axes: Any, history: list[dict[str, Any]], key: str, color: str, label: str) -> None:
    points = [(entry["step"], entry[key]) for entry in history if key in entry]
    if points:
        marker = "o" if key.startswith("eval_") else None
        axes.plot(*zip(*points, strict=True), color=color, label=label, marker=marker, ms=4)


def _show_whole_range(axes: Any, metric: str) -> None:
    """Let a score have the same height in every picture, and no small change look like a large."""
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    if metric not in LOWER_IS_BETTER:
        axes.set_ylim(top=1.02)


def _drawable(labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """Label names and fonts that have their characters; ids where no font on the machine does."""
    found = families("".join(sorted(set("".join(labels)))))
    if found is None:
        return [str(index) for index in range(len(labels))], [LATIN]
    return [label if len(label) <= 24 else f"{label[:23]}…" for label in labels], found


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as scratch:
        figure.savefig(scratch, dpi=130, format="png")
