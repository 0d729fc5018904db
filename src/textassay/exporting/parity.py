"""Whether what was written answers as it should, asked in a fresh process.

`python -m textassay.exporting.parity DIR TEXTS.json LOGITS.npy` verifies an artifact, and writes
its logits for the texts: nothing of the process that made it can help.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from textassay.artifacts.classifier import Classifier
from textassay.artifacts.fresh_process import run_in_fresh_process
from textassay.artifacts.hallmark import verify
from textassay.console import counted, reports_errors
from textassay.files import read_json
from textassay.temporary import temporary_folder


@dataclass(frozen=True)
class Parity:
    """How two classifiers' logits on the same rows differ."""

    rows: int
    largest: float
    other_labels: int

    @classmethod
    def of(cls, found: np.ndarray, wanted: np.ndarray) -> "Parity":
        """Of logits of shape [rows, labels]; not a number counts as infinitely far."""
        apart = np.nan_to_num(np.abs(found - wanted), nan=np.inf)
        other = int((found.argmax(1) != wanted.argmax(1)).sum())
        return cls(len(wanted), float(apart.max(initial=0.0)), other)

    def __str__(self) -> str:
        other = f"{counted(self.other_labels, 'label')} changed"
        labels = other if self.other_labels else "all labels equal"
        return f"logits of {counted(self.rows, 'row')} within {self.largest:.1e}, {labels}"


def logits_in_fresh_process(folder: Path, texts: list[str]) -> np.ndarray:
    """The logits of an artifact, [texts, labels], verified and computed in a process of its own.

    Raises GateError with what that process says if it fails.
    """
    with temporary_folder("parity") as scratch:
        given, found = scratch / "texts.json", scratch / "logits.npy"
        given.write_text(json.dumps(texts))
        arguments = [str(path) for path in (folder, given, found)]
        complaint = "what was written does not hold"
        run_in_fresh_process("textassay.exporting.parity", arguments, complaint)
        logits: np.ndarray = np.load(found)
        return logits


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("texts", type=click.Path(path_type=Path))
@click.argument("logits", type=click.Path(path_type=Path))
@reports_errors
def main(folder: Path, texts: Path, logits: Path) -> None:
    """Verify the artifact in FOLDER and write its LOGITS for TEXTS."""
    verify(folder)
    np.save(logits, Classifier.load(folder, device="cpu").logits(read_json(texts)))


if __name__ == "__main__":
    main()
