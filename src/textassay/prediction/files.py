"""A file of rows becomes a file of rows with answers: streamed, in order, killed at no loss."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textassay import __version__
from textassay.console import counted, err, say, warn
from textassay.data.read import BadRow
from textassay.errors import DataError
from textassay.files import sha256_file, sha256_text
from textassay.prediction import rows
from textassay.prediction.answers import Choices, answer, no_answer
from textassay.prediction.parts import Parts, parts_of
from textassay.prediction.rows import Source, Window, text_of
from textassay.prediction.writing import Layout, layout_for, write_part, write_whole

if TYPE_CHECKING:
    from textassay.artifacts.classifier import Classifier


@dataclass(frozen=True)
class Request:
    """What is to be predicted, with what, where to; `settings` is what else may change a digit."""

    source: Source
    output: Path
    artifact: Path
    choices: Choices
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Outcome:
    """How often each answer was given (None: to rows that cannot be used), and how many texts
    fill all that the model reads.
    """

    given: Counter[str | None] = field(default_factory=Counter)
    filling: int = 0

    def add(self, facts: dict[str, Any]) -> None:
        """Count what is known of a part."""
        self.given.update(dict(facts["given"]))
        self.filling += facts["filling"]


def settle_bad_rows(source: Source, on_bad_rows: str) -> None:
    """DataError where rows cannot be used and none was to be; else a note that says which."""
    if not source.bad_rows:
        return
    shown = "; ".join(map(str, source.bad))
    more = source.bad_rows - len(source.bad)
    shown += f"; and {more:,} more" if more else ""
    count = counted(source.bad_rows, "row")
    if on_bad_rows == "error":
        raise DataError(
            f"{count} cannot be used: {shown}. Mend them, or let them go without an answer with "
            "--on_bad_rows skip."
        )
    warn(f"{count} without an answer: {shown}")


def predict_file(request: Request, load: Callable[[], "Classifier"]) -> Outcome:
    """Write `request.output`, going on where an earlier attempt with the same request ended.

    `load` is called when everything else is known to be well.
    """
    source = request.source
    with parts_of(request.output, _fingerprint(request)) as parts:
        classifier = load()
        layout = layout_for(source, request.output, classifier.labels, request.choices)
        outcome = _write_parts(parts, classifier, source, layout)
        if outcome.given.total() != source.rows:
            raise DataError(
                f"{source.path}: had {counted(source.rows, 'row')} and now has "
                f"{outcome.given.total():,}; "
                "it was changed while it was read. Start again."
            )
        with parts.becoming_output() as scratch:
            write_whole(scratch, layout, map(parts.part, range(_count(parts))))
    return outcome


def _write_parts(parts: Parts, classifier: "Classifier", source: Source, layout: Layout) -> Outcome:
    outcome = Outcome()
    for number in range(_count(parts)):
        outcome.add(parts.facts(number))
    done = _count(parts)
    if done:
        say(
            f"{parts.output}: goes on after {outcome.given.total():,} of "
            f"{counted(source.rows, 'row')}"
        )
    with _progress(source.rows) as advance:
        for number, window in enumerate(source.windows()):
            if number >= done:
                answers, facts = answer_window(classifier, window, source, layout.choices)
                with parts.writing(number, facts) as scratch:
                    write_part(scratch, layout, window, answers)
                outcome.add(facts)
            advance(len(window.rows))
    return outcome


def answer_window(
    classifier: "Classifier", window: Window, source: Source, choices: Choices
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One answer for each row of a window, and the facts that an `Outcome` counts."""
    read = [text_of(row, source.text) for row in window.rows]
    texts = [text for text, problem in read if problem is None]
    ids = classifier.ids(texts)
    found = iter(classifier.proba_of_ids(ids))
    labels = classifier.labels
    answers = [
        no_answer(str(BadRow(str(source.path), row.line, problem)), choices)
        if problem else answer(next(found), labels, choices)
        for (_, problem), row in zip(read, window.rows, strict=True)
    ]  # fmt: skip
    filling = sum(len(row) >= classifier.max_length for row in ids)
    given = Counter(one[choices.prefix + "predicted"] for one in answers)
    return answers, {"given": list(given.items()), "filling": filling}


def _count(parts: Parts) -> int:
    number = 0
    while parts.part(number).exists():
        number += 1
    return number


def _fingerprint(request: Request) -> dict[str, str]:
    source = request.source
    files = sorted(path for path in request.artifact.rglob("*") if path.is_file())
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    settings = (
        asdict(request.choices), request.settings, source.text, source.names,
        (rows.WINDOW_ROWS, rows.WINDOW_CHARACTERS), __version__,
    )  # fmt: skip
    return {
        "input": sha256_file(source.path),
        "model": sha256_text(repr(facts)),
        "choice of settings": sha256_text(repr(settings)),
    }


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere; the block is given what counts rows."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("predicting", BarColumn(), MofNCompleteColumn(), "rows", TimeRemainingColumn())
    with Progress(*columns, console=err(), transient=True, disable=not err().is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.update(task, advance=count)
