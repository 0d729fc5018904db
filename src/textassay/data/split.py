"""Cutting off test and validation rows so that no text stands on two sides."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from textassay.data.read import values
from textassay.data.words import normalized
from textassay.errors import DataError


def group_ids(texts: Iterable[str]) -> np.ndarray:
    """An id for each text, shape [n], in order of appearance; equal for texts that count the same.

    Hashes stand for the texts: two of a million would collide once in tens of millions of sets.
    """
    first: dict[int, int] = {}
    return np.fromiter(
        (first.setdefault(hash(normalized(text)), len(first)) for text in texts), np.int64
    )


def cut(
    table: pa.Table, share: float, seed: int, published: Sequence[pa.Table] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers that stay and row numbers cut off: about `share` of every label.

    Rows with the same normalised text go to the same side. A text stays if it also stands in a
    `published` split, or if its rows are more than what the share still lacks; every label keeps at
    least one text, also where a text has two labels. The cut depends on the rows and `seed` alone.
    """
    held = _Held(table)
    sizes = np.bincount(held.groups)
    order = np.random.default_rng(seed).permutation(len(sizes))
    fixed = held.groups_in(published, table)
    taken = np.zeros(len(sizes), dtype=bool)
    staying = held.texts_per_label()
    for label in range(len(held.names)):
        own = order[held.first_label[order] == label]
        rows = sizes[own].sum()
        wanted = max(round(share * rows), 1 if len(own) > 2 else 0)
        # Where every text repeats more often than that, one of the rarest is taken.
        rarest = sizes[own].min(initial=rows)
        fits_anyway = rarest if 3 * rarest <= rows else 0
        for group in own:
            if wanted <= 0:
                break
            labels = held.labels_of(group)
            too_large = sizes[group] > max(wanted + 1, fits_anyway)
            if too_large or fixed[group] or (staying[labels] == 1).any():
                continue
            staying[labels] -= 1
            taken[group] = True
            wanted -= sizes[group]
    is_cut = taken[held.groups]
    return np.flatnonzero(~is_cut), np.flatnonzero(is_cut)


class _Held:
    """Which texts, as group ids, a table holds with which labels, as positions in `names`."""

    def __init__(self, table: pa.Table) -> None:
        encoded = table["label"].combine_chunks().dictionary_encode()
        found = encoded.dictionary.to_pylist()
        self.names = sorted(found)
        position = {name: index for index, name in enumerate(self.names)}
        by_code = np.array([position[name] for name in found])
        self.label_ids = by_code[encoded.indices.to_numpy(zero_copy_only=False)]
        self.groups = group_ids(values(table["text"]))
        _, self.first_rows = np.unique(self.groups, return_index=True)
        self.first_label = self.label_ids[self.first_rows]
        self._pairs = np.unique(self.groups * len(self.names) + self.label_ids)

    def texts_per_label(self) -> np.ndarray:
        """How many texts each label has, shape [labels]; a text with two labels counts for both."""
        return np.bincount(self._pairs % len(self.names), minlength=len(self.names))

    def labels_of(self, group: int) -> np.ndarray:
        """The labels of a text; nearly always one."""
        count = len(self.names)
        start, end = np.searchsorted(self._pairs, [group * count, (group + 1) * count])
        return self._pairs[start:end] % count

    def groups_in(self, others: Sequence[pa.Table], own: pa.Table) -> np.ndarray:
        """Whether a text of `own` also stands in one of `others`, shape [groups]."""
        known = {hash(normalized(text)) for other in others for text in values(other["text"])}
        if not known:
            return np.zeros(len(self.first_rows), dtype=bool)
        firsts = values(own["text"].take(pa.array(self.first_rows)))
        return np.array([hash(normalized(text)) in known for text in firsts])


def refuse_lonely_labels(table: pa.Table) -> None:
    """DataError where a label has a single text, which cannot be both learned and tested."""
    held = _Held(table)
    for label in np.flatnonzero(held.texts_per_label() == 1):
        where = int(np.flatnonzero(held.label_ids == label)[0])
        row = table.slice(where, 1).to_pylist()[0]
        raise DataError(
            f"{row['file']}, line {row['line']}: the label {row['label']!r} has a single text, so "
            "it cannot be both learned and tested; add rows, or remove the label."
        )


def overlap(inner: pa.Table, outer: pa.Table) -> int:
    """How many rows of `inner` have a text that also stands in `outer`."""
    return sum(stand_in(inner, outer))


def stand_in(inner: pa.Table, outer: pa.Table) -> list[bool]:
    """For each row of `inner` whether its text also stands in `outer`."""
    known = {hash(normalized(text)) for text in values(outer["text"])}
    return [hash(normalized(text)) in known for text in values(inner["text"])]


def distinct_texts(table: pa.Table) -> tuple[int, int]:
    """How many texts that count as different a table has, and the rows of the most frequent."""
    rows = Counter(hash(normalized(text)) for text in values(table["text"]))
    return len(rows), max(rows.values(), default=0)


def sample(table: pa.Table, rows: int, seed: int) -> pa.Table:
    """At most `rows` rows, every label in proportion, in the table's own order.

    Every label keeps a row while there are as many rows as labels.
    """
    if len(table) <= rows:
        return table
    labels = np.array(table["label"].to_pylist())
    order = np.random.default_rng(seed).permutation(len(table))
    # Rank within the label, divided by its size: taking the smallest keeps the proportions.
    rank = np.empty(len(table))
    for label in np.unique(labels):
        own = order[labels[order] == label]
        rank[own] = (np.arange(len(own)) + 0.5) / len(own)
        rank[own[0]] = -1 / len(own)
    chosen = np.sort(np.argsort(rank, kind="stable")[:rows])
    return table.take(chosen)
