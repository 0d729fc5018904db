"""Small tables of texts and labels, as they stand after cleaning."""

from collections.abc import Iterable

import pyarrow as pa
from hypothesis import strategies as st

# Every character that a file of text may hold; NUL and other controls are told apart in data/read.
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]))


def table_of(rows: Iterable[tuple[str, str]], file: str = "train.csv") -> pa.Table:
    """`text`, `label`, `file`, `line` for pairs of text and label; line 1 would be the header."""
    pairs = list(rows)
    return pa.table(
        {
            "text": pa.array([text for text, _ in pairs], pa.large_string()),
            "label": pa.array([label for _, label in pairs], pa.large_string()),
            "file": pa.array([file] * len(pairs), pa.string()),
            "line": pa.array(range(2, len(pairs) + 2), pa.int64()),
        }
    )


def pairs_of(table: pa.Table) -> list[tuple[str, str]]:
    """The pairs of text and label of a table, in order."""
    return list(zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True))
