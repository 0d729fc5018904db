"""Cutting off test and validation rows so that no text stands on two sides."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from textassay.errors import DataError

NEITHER_LETTER_NOR_DIGIT = re.compile(r"[\W_]+")


def normalized(text: str) -> str:
    """The text by which rows count as the same: NFKC, lower case, letters and digits only.

    A text without letters or digits (an emoji, say) stands for itself.
    """
    folded = unicodedata.normalize("NFKC", text).lower()
    return NEITHER_LETTER_NOR_DIGIT.sub("", folded) or folded


def group_ids(texts: Sequence[str]) -> np.ndarray:
    """An id for each text, shape [n]; equal for texts that count as the same."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(normalized(text), len(first)) for text in texts])


def cut(
    table: pa.Table, share: float, seed: int, published: Sequence[pa.Table] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers that stay and row numbers cut off: about `share` of every label.

    Rows with the same normalised text go to the same side, and texts that also stand in a
    `published` split stay; every label keeps at least one text, also where a text has two labels.
    The cut depends on the rows and `seed` alone.
    """
    texts = table["text"].to_pylist()
    groups = group_ids(texts)
    elsewhere = {normalized(text) for other in published for text in other["text"].to_pylist()}
    labels = np.array(table["label"].to_pylist())
    _, first_rows = np.unique(groups, return_index=True)
    order = np.random.default_rng(seed).permutation(len(first_rows))
    sizes = np.bincount(groups)
    taken = np.zeros(len(first_rows), dtype=bool)
    labels_of: list[set[str]] = [set() for _ in first_rows]
    for group, label in zip(groups, labels, strict=True):
        labels_of[group].add(str(label))
    staying = Counter(label for found in labels_of for label in found)
    for label in np.unique(labels):
        own = [g for g in order if labels[first_rows[g]] == label]
        movable = [g for g in own[:-1] if normalized(texts[first_rows[g]]) not in elsewhere]
        wanted = max(round(share * sizes[own].sum()), 1 if len(own) > 2 else 0)
        for group in movable:
            if wanted <= 0:
                break
            if any(staying[held] == 1 for held in labels_of[group]):
                continue
            staying.subtract(labels_of[group])
            taken[group] = True
            wanted -= sizes[group]
    is_cut = taken[groups]
    return np.flatnonzero(~is_cut), np.flatnonzero(is_cut)


def refuse_lonely_labels(table: pa.Table) -> None:
    """DataError where a label has a single text, which cannot be both learned and tested."""
    labels = np.array(table["label"].to_pylist())
    groups = group_ids(table["text"].to_pylist())
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(np.unique(groups[rows])) == 1:
            row = table.slice(int(rows[0]), 1).to_pylist()[0]
            raise DataError(
                f"{row['file']}, line {row['line']}: the label {row['label']!r} has a single text, "
                "so it cannot be both learned and tested; add rows, or remove the label."
            )


def overlap(inner: pa.Table, outer: pa.Table) -> int:
    """How many rows of `inner` have a text that also stands in `outer`."""
    known = {normalized(text) for text in outer["text"].to_pylist()}
    return sum(normalized(text) in known for text in inner["text"].to_pylist())


def sample(table: pa.Table, rows: int, seed: int) -> pa.Table:
    """At most `rows` rows, every label in proportion, in the table's own order."""
    if len(table) <= rows:
        return table
    labels = np.array(table["label"].to_pylist())
    order = np.random.default_rng(seed).permutation(len(table))
    # Rank within the label, divided by its size: taking the smallest keeps the proportions.
    rank = np.empty(len(table))
    for label in np.unique(labels):
        own = order[labels[order] == label]
        rank[own] = (np.arange(len(own)) + 0.5) / len(own)
    chosen = np.sort(np.argsort(rank, kind="stable")[:rows])
    return table.take(chosen)
