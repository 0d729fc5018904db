"""Columns of Parquet files and of data sets from the hub as columns of text."""

from typing import Any

import pyarrow as pa

from textassay.data.cells import text_column
from textassay.files import parse_json

# What `datasets` writes where a row of a ClassLabel column has no label.
NO_CLASS = -1
# Objects of Python take many times what Arrow does.
AT_ONCE = 50_000


def text_columns(table: pa.Table) -> tuple[dict[str, pa.ChunkedArray], dict[str, dict[str, int]]]:
    """Return {name: column of text} and {name: {kind: position}} of values that are no text.

    Integers of a ClassLabel column become its names, which `datasets` keeps in the metadata.
    """
    names = class_names(table.schema)
    columns, kinds = {}, {}
    for name in table.column_names:
        columns[name], odd = _text_column(table[name], names.get(name))
        if odd:
            kinds[name] = odd
    return columns, kinds


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return {column: names} for the ClassLabel columns that the huggingface metadata describes."""
    try:
        described = parse_json((schema.metadata or {})[b"huggingface"])
        features = described["info"]["features"].items()
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    found = {name: _names_of(feature) for name, feature in features}
    return {name: names for name, names in found.items() if names}


def _names_of(feature: Any) -> list[str] | None:
    """Return the names of a ClassLabel, or of the ClassLabel that a list consists of."""
    while isinstance(feature, dict) and feature.get("_type") in ("Sequence", "List", "LargeList"):
        feature = feature.get("feature")
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
        names = feature.get("names")
        return [str(name) for name in names] if isinstance(names, list) else None
    return None


def _text_column(
    column: pa.ChunkedArray, names: list[str] | None
) -> tuple[pa.ChunkedArray, dict[str, int]]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if names is None and (_is_text(column.type) or pa.types.is_integer(column.type)):
        return column.cast(pa.large_string()), {}
    parts: list[pa.Array] = []
    kinds: dict[str, int] = {}
    for start in range(0, len(column), AT_ONCE):
        values = column.slice(start, AT_ONCE).to_pylist()
        array, odd = text_column(_named(value, names) for value in values)
        kinds = {kind: start + at for kind, at in odd.items()} | kinds
        parts.append(array)
    return pa.chunked_array(parts, pa.large_string()), kinds


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _named(value: Any, names: list[str] | None) -> Any:
    if names and isinstance(value, list):
        return [_named(item, names) for item in value]
    if names and isinstance(value, int) and value != NO_CLASS and 0 <= value < len(names):
        return names[value]
    return value
