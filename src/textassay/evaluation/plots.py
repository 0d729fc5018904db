"""Pictures of a run, as PNG: the confusion matrix and the learning curves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from textassay.evaluation.fonts import LATIN, families, plain_text
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


def plot_learning_curves(path: Path, history: list[dict[str, Any]], metric: str) -> None:
    """Training and validation loss over the steps, and the metric that picks the checkpoint."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    losses, metrics = figure.subplots(1, 2)
    _curve(losses, history, "loss", INK, "train")
    _curve(losses, history, "eval_loss", SECOND, "validation")
    losses.set_xlabel("optimizer step")
    losses.set_ylabel("loss")
    losses.legend(frameon=False)
    _curve(metrics, history, f"eval_{metric}", ACCENT, "validation")
    metrics.set_xlabel("optimizer step")
    metrics.set_ylabel(metric)
    for axes in (losses, metrics):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    _save(figure, path)


def _curve(axes: Any, history: list[dict[str, Any]], key: str, color: str, label: str) -> None:
    points = [(entry["step"], entry[key]) for entry in history if key in entry]
    if points:
        marker = "o" if key.startswith("eval_") else None
        axes.plot(*zip(*points, strict=True), color=color, label=label, marker=marker, ms=4)


def _drawable(labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """Label names and fonts that have their characters; ids where no font on the machine does."""
    found = families("".join(sorted(set("".join(labels)))))
    if found is None:
        return [str(index) for index in range(len(labels))], [LATIN]
    return [label if len(label) <= 24 else f"{label[:23]}…" for label in labels], found


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as scratch:
        figure.savefig(scratch, dpi=130, format="png")
