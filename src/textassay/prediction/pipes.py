"""JSON lines from standard input, each answered as soon as nothing more is waiting."""

import os
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from textassay.console import counted, warn
from textassay.data.columns import find_text_column
from textassay.data.json_rows import parse_line
from textassay.data.read import BadRow
from textassay.data.trained_on import TrainedOn
from textassay.errors import DataError, visible
from textassay.prediction.answers import Choices, answer, keys, no_answer
from textassay.prediction.files import answer_window
from textassay.prediction.rows import Row, Source, row_of_item, text_of
from textassay.prediction.writing import json_line, refuse_clash

if TYPE_CHECKING:
    from textassay.artifacts.classifier import Classifier

NAME = "standard input"
# A line is answered with at most so many others, or so many bytes of them.
LINES_AT_ONCE = 256
BYTES_AT_ONCE = 1 << 22
LONGEST_LINE = 1 << 26


def answer_pipe(
    classifier: "Classifier",
    choices: Choices,
    text_column: str | None,
    on_bad_rows: str,
    model: TrainedOn | None = None,
) -> None:
    """Answer every line of standard input on standard output, in order, until the input ends.

    A line is an object with a text, or a JSON string. Raises DataError at a line that cannot be
    used unless `on_bad_rows` is `skip`: then it has an answer that says why.
    """
    without = 0
    with writing_to_stdout() as write:
        for lines in waiting_lines(sys.stdin.fileno()):
            rows = []
            for number, line in lines:
                row, text_column = _read(number, line, text_column, choices, model)
                rows.append((row, *text_of(row, text_column or "text")))
            usable = [text for _, text, problem in rows if problem is None]
            found = iter(classifier.predict_proba(usable))
            for row, _, problem in rows:
                if problem is None:
                    write(json_line(row, answer(next(found), classifier.labels, choices)))
                    continue
                bad = BadRow(NAME, row.line, problem)
                if on_bad_rows == "error":
                    raise DataError(f"{bad}; --on_bad_rows skip goes on without its answer.")
                write(json_line(row, no_answer(str(bad), choices)))
                without += 1
    if without:
        warn(f"{counted(without, 'line')} without an answer")


def answer_to_stdout(classifier: "Classifier", source: Source, choices: Choices) -> None:
    """Write the rows of a file with their answers to standard output, as JSON lines."""
    refuse_clash(str(source.path), source.names, keys(choices))
    with writing_to_stdout() as write:
        for window in source.windows():
            answers, _ = answer_window(classifier, window, source, choices)
            write("".join(map(json_line, window.rows, answers)))


def waiting_lines(descriptor: int) -> Iterator[list[tuple[int, bytes]]]:
    """Numbered lines: all that have come, up to a batch, and never a wait while one has."""
    number, size, rest, ended = 0, 0, b"", False
    lines: list[tuple[int, bytes]] = []
    while not ended:
        full = len(lines) >= LINES_AT_ONCE or size >= BYTES_AT_ONCE
        if lines and (full or not select.select([descriptor], [], [], 0)[0]):
            yield lines[:LINES_AT_ONCE]
            lines = lines[LINES_AT_ONCE:]
            size = sum(len(line) for _, line in lines)
            continue
        chunk = os.read(descriptor, 1 << 16)
        ended = not chunk
        *whole, rest = (rest + chunk).split(b"\n")
        if ended and rest:
            whole.append(rest)
        elif len(rest) > LONGEST_LINE:
            raise DataError(f"{NAME}, line {number + len(whole) + 1}: has no end in 64 MB.")
        for line in whole:
            number += 1
            if line.strip():
                lines.append((number, line))
                size += len(line)
    for start in range(0, len(lines), LINES_AT_ONCE):
        yield lines[start : start + LINES_AT_ONCE]


def _read(
    number: int, line: bytes, column: str | None, choices: Choices, model: TrainedOn | None
) -> tuple[Row, str | None]:
    """The row on a line, and the text's column: once an object has shown it, all have it there."""
    try:
        item, problem = parse_line(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError:
        item, problem = {}, "is not valid UTF-8"
    if isinstance(item, str):
        return row_of_item(number, {column or "text": item}, None), column
    row = row_of_item(number, {} if problem else item, problem)
    clash = next((name for name in row.cells if name in keys(choices)), None)
    if clash and row.problem is None:
        kept = {name: value for name, value in row.cells.items() if name != clash}
        return Row(number, kept, f"has {clash!r} already, as the answers have (--prefix)"), column
    if column is None and row.cells and row.problem is None:
        told = model.text_column_in(row.cells) if model else None
        column = find_text_column(f"{NAME}, line {number}", list(row.cells), told)
    return row, column


@contextmanager
def writing_to_stdout() -> Iterator[Any]:
    """A function that writes text to standard output at once; the reader may go when it likes."""
    stream = sys.stdout
    shown = visible if stream.isatty() else str  # the same JSON, with what is unseen escaped

    def write(text: str) -> None:
        stream.write(shown(text))
        stream.flush()

    try:
        yield write
    except BrokenPipeError:
        _forget_stdout()
    except OSError as error:
        if error.filename is None:
            error.filename = "standard output"
            _forget_stdout()
        raise


def _forget_stdout() -> None:
    """What is still held for it would fail once more when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_lines(texts: Sequence[str], answers: Sequence[dict[str, Any]]) -> None:
    """Texts with their answers on standard output, as JSON lines."""
    with writing_to_stdout() as write:
        for text, found in zip(texts, answers, strict=True):
            write(json_line(Row(0, {"text": text}), found))
