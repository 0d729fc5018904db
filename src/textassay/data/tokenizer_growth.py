"""What a tokenizer.json makes of a text before it cuts it: not many times as many letters.

Each step of it may write several letters for one, and steps follow each other: twenty that double
make a million of one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textassay.errors import GateError
from textassay.files import read_json

# Sentencepiece's own tables come to 18, and no tokenizer of the hub to more than twice that.
MOST_GROWTH = 1000
GROWING = {"ByteLevel": 2, "Precompiled": 18}


def refuse_growing_texts(path: Path) -> None:
    """GateError for a tokenizer.json whose steps make of one letter more than MOST_GROWTH.

    What else is wrong in it, or that it is not there, the library will say.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError, RecursionError):
        return
    if not isinstance(content, dict):
        return
    growth = 1.0
    for part in ("normalizer", "pre_tokenizer", "post_processor"):
        for step in _steps(content.get(part)):
            growth *= max(1.0, _growth(step))
            if growth > MOST_GROWTH:
                raise GateError(
                    f"{path}: its steps (normalizer, pre_tokenizer) make more than {MOST_GROWTH:,} "
                    "letters of one, so a short text would take any memory; copy it again from "
                    "where the tokenizer was made."
                )


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """The steps of a part, those of sequences in it one after the other."""
    waiting = [part]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            yield one
            waiting += [one.get(key) for key in ("normalizers", "pretokenizers", "processors")]


def _growth(step: dict[str, Any]) -> float:
    """How many letters a step makes of one, at most."""
    kind, content = str(step.get("type")), step.get("content")
    if kind == "Replace" and isinstance(content, str):
        pattern = step.get("pattern")
        matched = pattern.get("String") if isinstance(pattern, dict) else None
        return len(content) / len(matched) if matched else len(content) + 1
    if kind == "TemplateProcessing":
        single = step.get("single")
        pieces = single if isinstance(single, list) else []
        return sum(isinstance(piece, dict) and "Sequence" in piece for piece in pieces)
    return GROWING.get(kind, 1)
