"""The steps of `textassay predict`: what can be refused is refused before the model is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textassay.console import counted, say, tell, warn
from textassay.data.options import ReadOptions
from textassay.data.tidy_report import refuse_outputs
from textassay.data.trained_on import trained_on
from textassay.errors import UsageError
from textassay.prediction import pipes, terminal
from textassay.prediction.answers import Choices, refuse_choices
from textassay.prediction.files import Request, predict_file, settle_bad_rows
from textassay.prediction.finding import find_artifact
from textassay.prediction.rows import open_source

if TYPE_CHECKING:
    from textassay.artifacts.classifier import Classifier

PIPE = "-"
LABELS_SHOWN = 20


@dataclass(frozen=True)
class Ask:
    """Who is asked, how it is run, and what is wanted of an answer."""

    model: str
    backend: str | None
    base: str | None
    device: str
    threads: int | None
    choices: Choices

    def load(self, artifact: Path | None = None) -> "Classifier":
        """The classifier in `artifact`, else in what `model` names."""
        from textassay.artifacts.classifier import Classifier

        folder = artifact or find_artifact(self.model, self.backend, self.device)
        classifier = Classifier.load(
            folder, base=self.base, device=self.device, threads=self.threads
        )
        refuse_choices(self.choices, classifier.labels)
        return classifier


def refuse_sources(
    texts: Sequence[str], interactive: bool, demo: bool, source: Path | None, output: Path | None
) -> None:
    """UsageError unless exactly one source of texts is named, with a place for its answers."""
    named = [flag for flag, given in (("--text", texts), ("--interactive", interactive),
             ("--demo", demo), ("--input", source)) if given]  # fmt: skip
    if len(named) != 1:
        what = " and ".join(named) or "no text"
        raise UsageError(f"{what}: name one of --text, --interactive, --demo and --input.")
    if output is not None and source is None:
        raise UsageError(f"--output {output}: goes with --input; for {named[0]} use > {output}.")
    if source is not None and str(source) != PIPE and output is None:
        raise UsageError(f"--input {source}: name an --output, or - for standard output.")
    if str(source) == PIPE and output is not None and str(output) != PIPE:
        raise UsageError(f"--input -: answers on standard output; use > {output}.")
    terminal.refuse_texts(texts)


def refuse_reading(flags: Sequence[str], source: Path | None) -> None:
    """UsageError for flags that say how a file is written where no file is read."""
    if flags and (source is None or str(source) == PIPE):
        raise UsageError(f"--{flags[0]}: says how a file is written; it goes with --input FILE.")


def answer_people(ask: Ask, texts: Sequence[str], interactive: bool) -> None:
    """Answer texts of the command line, what is typed, or (with neither) examples."""
    try:
        classifier = ask.load()
        if interactive:
            terminal.answer_typed(classifier, ask.choices)
        else:
            shown = texts or terminal.examples_for(classifier)
            terminal.answer_texts(classifier, shown, ask.choices)
    except KeyboardInterrupt:
        if not interactive:
            raise


def answer_pipe(ask: Ask, text_column: str | None, on_bad_rows: str) -> None:
    """Answer JSON lines of standard input on standard output."""
    artifact = find_artifact(ask.model, ask.backend, ask.device)
    model = trained_on(artifact)
    pipes.answer_pipe(ask.load(artifact), ask.choices, text_column, on_bad_rows, model)


def answer_file(
    ask: Ask,
    path: Path,
    output: Path | None,
    text_column: str | None,
    options: ReadOptions,
    on_bad_rows: str,
    force: bool,
) -> None:
    """Answer the rows of a file, in a file or (`-`) on standard output, and say how many."""
    to_file = output if str(output) != PIPE else None
    if to_file:
        refuse_outputs(path, to_file, [], force)
    artifact = find_artifact(ask.model, ask.backend, ask.device)
    source = open_source(path, text_column, options, trained_on(artifact))
    for note in source.notes:
        warn(f"{path}: {note}")
    settle_bad_rows(source, on_bad_rows)
    if not to_file:
        pipes.answer_to_stdout(ask.load(artifact), source, ask.choices)
        return
    settings = {"base": ask.base, "device": ask.device, "threads": ask.threads}
    request = Request(source, to_file, artifact, ask.choices, settings)
    say(f"{path}: {counted(source.rows, 'row')}, text in {source.text!r}")
    outcome = predict_file(request, lambda: ask.load(artifact))
    if outcome.filling:
        warn(
            f"cut off where they fill all that the model reads: {counted(outcome.filling, 'text')}"
        )
    given = outcome.given.most_common()
    listed = ", ".join(f"{name or 'no answer'} {count:,}" for name, count in given[:LABELS_SHOWN])
    more = f", {len(given) - LABELS_SHOWN} more labels" if len(given) > LABELS_SHOWN else ""
    tell(f"predicted  {to_file}: {counted(outcome.given.total(), 'row')} ({listed}{more})")
