"""What is answered about a text: its label, how sure, which others; or that nothing is answered."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textassay.errors import UsageError

ABSTAIN = "abstain"
# What is written is what is compared with a threshold, so that a file agrees with itself.
DECIMALS = 6


@dataclass(frozen=True)
class Choices:
    """What the user decides about answers.

    `top_k`: how many labels are shown with their probabilities, the likeliest first; None shows all
    in the order of the labels, 0 none. Below the probability `threshold` the answer is `abstain`.
    `prefix` begins the names of everything that is answered. `problems`: whether every answer says
    what is wrong with its row. `escape_formulas`: whether CSV and TSV hold `'` before what a
    spreadsheet would compute.
    """

    top_k: int | None = None
    threshold: float | None = None
    prefix: str = ""
    problems: bool = False
    escape_formulas: bool = False


def refuse_choices(choices: Choices, labels: Sequence[str]) -> None:
    """UsageError where `abstain` could mean two things."""
    if choices.threshold is not None and ABSTAIN in labels:
        raise UsageError(
            f"--threshold: the model has a label {ABSTAIN!r} of its own, so nobody could tell the "
            "two apart; leave out --threshold and look at the scores."
        )


def answer(row: np.ndarray, labels: Sequence[str], choices: Choices) -> dict[str, Any]:
    """`{"predicted", "score", "probabilities"}` from one row of probabilities, shape [labels].

    `score` is the highest probability, of `abstain` too. Ties go to the first label.
    """
    rounded = row.round(DECIMALS).tolist()
    best = int(row.argmax())
    unsure = choices.threshold is not None and rounded[best] < choices.threshold
    found = {"predicted": ABSTAIN if unsure else labels[best], "score": rounded[best]}
    if choices.top_k != 0:
        order = range(len(labels)) if choices.top_k is None else _best(row, choices.top_k)
        found["probabilities"] = {labels[index]: rounded[index] for index in order}
    return _named(found, None, choices)


def no_answer(problem: str, choices: Choices) -> dict[str, Any]:
    """The answer to a row that cannot be used: the same names, nothing but the problem in them."""
    found: dict[str, Any] = {"predicted": None, "score": None}
    if choices.top_k != 0:
        found["probabilities"] = None
    return _named(found, problem, choices)


def keys(choices: Choices) -> list[str]:
    """The names in an answer."""
    return list(no_answer("", choices))


def column_names(labels: Sequence[str], choices: Choices) -> list[str]:
    """The names of an answer's columns in a table, where probabilities have one column each."""
    if choices.top_k is None:
        shown = [f"probability of {label}" for label in labels]
    else:
        places = range(1, min(choices.top_k, len(labels)) + 1)
        shown = [name for place in places for name in (f"label {place}", f"probability {place}")]
    names = ["predicted", "score", *shown, *["problem"] * choices.problems]
    return [choices.prefix + name for name in names]


def cells(found: dict[str, Any], labels: Sequence[str], choices: Choices) -> list[Any]:
    """An answer as the cells of its columns."""
    content = {name.removeprefix(choices.prefix): value for name, value in found.items()}
    probabilities = content.get("probabilities") or {}
    width = len(column_names(labels, choices)) - 2 - choices.problems
    shown: Iterable[Any] = probabilities.values()
    if choices.top_k is not None:
        shown = [cell for pair in probabilities.items() for cell in pair]
    shown = list(shown) or [None] * width
    return [content["predicted"], content["score"], *shown, *[content.get("problem")]][
        : 2 + width + choices.problems
    ]


def _best(row: np.ndarray, count: int) -> list[int]:
    order: list[int] = np.argsort(-row, kind="stable")[:count].tolist()
    return order


def _named(found: dict[str, Any], problem: str | None, choices: Choices) -> dict[str, Any]:
    if choices.problems:
        found["problem"] = problem
    return {choices.prefix + name: value for name, value in found.items()}
