"""Rows with their answers in any format: in parts that are whole, and the parts as one file."""

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from textassay.data.cells import BYTES, json_value, kind_of_value, text_of_value
from textassay.data.formulas import escape_formula
from textassay.data.tidy_report import quoted
from textassay.errors import DataError, UsageError
from textassay.prediction.answers import Choices, cells, column_names, keys
from textassay.prediction.rows import Row, Source, Window

NESTED = (".json", ".jsonl")
NUMBERS = ("score", "probability")
ROWS_OF_A_GROUP = 50_000


@dataclass(frozen=True)
class Layout:
    """What an output file looks like: its format, and its columns, those of the answers last."""

    suffix: str
    names: list[str]
    labels: Sequence[str]
    choices: Choices
    schema: pa.Schema | None = None

    @property
    def answered(self) -> list[str]:
        """The names of the columns of the answers."""
        return column_names(self.labels, self.choices)

    @property
    def delimiter(self) -> str:
        return "\t" if self.suffix == ".tsv" else ","

    def arrow(self) -> pa.Schema:
        """The columns as Arrow types: those of a Parquet input stay, all others are text."""
        schema = self.schema or pa.schema([(name, pa.large_string()) for name in self.names])
        schema = schema.remove_metadata()  # it counts the columns of the input
        for name in self.answered:
            number = name.removeprefix(self.choices.prefix).startswith(NUMBERS)
            schema = schema.append(pa.field(name, pa.float64() if number else pa.string()))
        return schema


def layout_for(source: Source, output: Path, labels: Sequence[str], choices: Choices) -> Layout:
    """The layout of `output`. UsageError where a column has the name of an answer's already."""
    layout = Layout(output.suffix.lower(), source.names, labels, choices, source.schema)
    added = keys(choices) if layout.suffix in NESTED else layout.answered
    refuse_clash(str(source.path), source.names, added)
    return layout


def refuse_clash(file: str, names: Iterable[str], added: Sequence[str]) -> None:
    """UsageError where an answer would write over a column."""
    for name in names:
        if name in added:
            raise UsageError(
                f"{file}: has a column {name!r} already, as the answers have; put something before "
                "the names of theirs, with --prefix 'new ' say."
            )


def json_line(row: Row, answer: dict[str, Any]) -> str:
    """A row and its answer as one line of JSON, with its end."""
    _refuse_bytes(row)
    return json.dumps(_for_json(row.cells) | answer, ensure_ascii=False, default=json_value) + "\n"


def write_part(path: Path, layout: Layout, window: Window, answers: list[dict[str, Any]]) -> None:
    """Write a window of rows and one answer for each."""
    if layout.suffix == ".parquet":
        _write_arrow(path, layout, window, answers)
        return
    pairs = zip(window.rows, answers, strict=True)
    if layout.suffix in NESTED:
        lines: Iterator[str] = (json_line(row, answer) for row, answer in pairs)
    else:
        lines = (_delimited(_texts(row, layout.names) + _answer(layout, answer), layout)
                 for row, answer in pairs)  # fmt: skip
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.writelines(lines)


def write_whole(path: Path, layout: Layout, parts: Iterable[Path]) -> None:
    """Write the file that the parts are parts of."""
    if layout.suffix == ".parquet":
        _join_arrow(path, layout, parts)
        return
    with path.open("wb") as whole:
        if layout.suffix in (".csv", ".tsv"):
            header = _delimited([*layout.names, *layout.answered], layout)
            whole.write(header.encode())
        for index, part in enumerate(parts):
            with part.open("rb") as stream:
                if layout.suffix == ".json":
                    whole.writelines(_entries(stream, first=index == 0))
                else:
                    shutil.copyfileobj(stream, whole, 1 << 20)
        if layout.suffix == ".json":
            whole.write(b"\n]\n")


def _entries(lines: Iterable[bytes], first: bool) -> Iterator[bytes]:
    for line in lines:
        yield (b"[\n" if first else b",\n") + line.rstrip(b"\n")
        first = False


def _delimited(row: Sequence[str | None], layout: Layout) -> str:
    cells = map(escape_formula, row) if layout.choices.escape_formulas else row
    return layout.delimiter.join(map(quoted, cells)) + "\n"


def _texts(row: Row, names: Sequence[str]) -> list[str | None]:
    _refuse_bytes(row)
    found = [text_of_value(row.cells.get(name)) for name in names]
    if any("\0" in cell for cell in found if cell):
        raise DataError(
            f"line {row.line} of the input: holds NUL, which no CSV or TSV can; name an --output "
            "that ends in .jsonl."
        )
    return found


def _refuse_bytes(row: Row) -> None:
    """DataError for bytes that are no text, which only Parquet holds."""
    for name, cell in row.cells.items():
        if kind_of_value(cell) == BYTES:
            raise DataError(
                f"line {row.line} of the input: the column {name!r} holds {BYTES}; name an "
                "--output that ends in .parquet."
            )


def _answer(layout: Layout, answer: dict[str, Any]) -> list[str | None]:
    found = cells(answer, layout.labels, layout.choices)
    return [None if cell is None else str(cell) for cell in found]


def _for_json(cells: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN, which Parquet files of pandas are full of."""
    nothing = {name: None for name, value in cells.items()
               if isinstance(value, float) and math.isnan(value)}  # fmt: skip
    return cells | nothing


def _write_arrow(path: Path, layout: Layout, window: Window, answers: list[dict[str, Any]]) -> None:
    schema = layout.arrow()
    if window.typed is not None:
        columns: list[Any] = list(window.typed.columns)
    else:
        columns = [[text_of_value(row.cells.get(name)) for row in window.rows]
                   for name in layout.names]  # fmt: skip
    found = [cells(answer, layout.labels, layout.choices) for answer in answers]
    columns += zip(*found, strict=True)
    arrays = [column if isinstance(column, pa.Array) else pa.array(column, field.type)
              for column, field in zip(columns, schema, strict=True)]  # fmt: skip
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))


def _join_arrow(path: Path, layout: Layout, parts: Iterable[Path]) -> None:
    held: list[pa.RecordBatch] = []
    with pq.ParquetWriter(path, layout.arrow()) as writer:
        for part in parts:
            with pa.OSFile(str(part)) as stream, pa.ipc.open_stream(stream) as reader:
                held += list(reader)
            if sum(map(len, held)) >= ROWS_OF_A_GROUP or sum(b.nbytes for b in held) > 1 << 26:
                writer.write_table(pa.Table.from_batches(held))
                held = []
        if held:
            writer.write_table(pa.Table.from_batches(held))
