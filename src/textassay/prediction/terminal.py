"""Answers for people: texts given on the command line, typed one after another, or examples."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from textassay.console import out, say, warn
from textassay.errors import DataError
from textassay.files import cache_folder
from textassay.prediction.answers import ABSTAIN, Choices, answer
from textassay.prediction.pipes import print_lines
from textassay.temporary import close_to_others

if TYPE_CHECKING:
    from rich.text import Text

    from textassay.artifacts.classifier import Classifier

ENGLISH = (
    "A lovely film, warm and funny from the first minute to the last.",
    "It is fine, but I have seen it all before.",
    "Two hours of my life that nobody will give back to me.",
    "The company raised its forecast after profits rose in the third quarter.",
)
CHINESE = (
    "这部电影太好看了，从头到尾都很感动。",
    "还行吧，没有什么特别的。",
    "服务态度很差，再也不会来了。",
    "明天就要考试了，我好紧张。",
)
QUIT = {"quit", "exit"}
# What was typed, in the cache.
HISTORY = "predict_history"
BAR = 24
LABELS_SHOWN = 10


def answer_texts(classifier: "Classifier", texts: Sequence[str], choices: Choices) -> None:
    """Show the answer to each text: bars on a terminal, JSON lines elsewhere."""
    ids = classifier.ids(texts)
    for number, row in enumerate(ids, start=1):
        if len(row) >= classifier.max_length:
            which = f"text {number}" if len(texts) > 1 else "the text"
            warn(f"{which} fills the {classifier.max_length} tokens of the model; more is cut off")
    found = [answer(row, classifier.labels, choices) for row in classifier.proba_of_ids(ids)]
    if not out().is_terminal:
        print_lines(texts, found)
        return
    for text, one in zip(texts, found, strict=True):
        out().print(shown(text, one, choices))


def refuse_texts(texts: Sequence[str]) -> None:
    """DataError for a text of the command line whose bytes are no UTF-8."""
    for number, text in enumerate(texts, start=1):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"--text, number {number}: is not valid UTF-8 (character {error.start + 1}); was "
                "it typed in another encoding?"
            ) from None


def examples_for(classifier: "Classifier") -> tuple[str, ...]:
    """Examples in Chinese where labels or probe rows are, in English elsewhere."""
    probe = (classifier.hallmark or {}).get("probe") or {}
    seen = "".join([*classifier.labels, *probe.get("texts", [])])
    chinese = sum("一" <= character <= "鿿" for character in seen)
    return CHINESE if chinese > 0.2 * max(1, len(seen)) else ENGLISH


def answer_typed(classifier: "Classifier", choices: Choices) -> None:
    """Answer what is typed, line by line, until Ctrl-D, Ctrl-C, `quit` or `exit`."""
    typing = sys.stdin.isatty() and sys.stdout.isatty()
    history = _read_history() if typing else None
    if typing:
        say("Type a text; quit, Ctrl-D or Ctrl-C ends.")
    try:
        while (text := _next_text(typing)) is not None and text.strip().lower() not in QUIT:
            if text.strip():
                answer_texts(classifier, [text], choices)
    except KeyboardInterrupt:
        pass
    if typing:
        out().print()
        _write_history(history)


def _next_text(typing: bool) -> str | None:
    while True:
        try:
            return input("> " if typing else "")
        except EOFError:
            return None
        except UnicodeDecodeError:
            say("That is not valid UTF-8.")


def _read_history() -> Any:
    """Python's readline with what was typed before, or None where there is none."""
    try:
        import readline
    except ImportError:
        return None
    readline.set_history_length(1000)
    readline.set_auto_history(True)
    with suppress(OSError):
        readline.read_history_file(cache_folder() / HISTORY)
    return readline


def _write_history(readline: Any) -> None:
    if readline is not None:
        with suppress(OSError):
            history = cache_folder() / HISTORY
            readline.write_history_file(history)
            close_to_others(history)


def shown(text: str, found: dict[str, Any], choices: Choices) -> "Text":
    """A text with its answer for a terminal: the label, its probability, a bar for every label."""
    from rich.text import Text

    found = {name.removeprefix(choices.prefix): value for name, value in found.items()}
    unsure = found["predicted"] == ABSTAIN and choices.threshold is not None
    short = " ".join(text[:500].split()) or "(empty)"
    short = short if len(short) <= 70 else short[:69] + "…"
    lines = Text()
    lines.append(f"{found['predicted']}", style="bold yellow" if unsure else "bold green")
    lines.append(f"  {found['score']:.3f}", style="bold")
    lines.append(f"  {short}\n", style="dim")
    ranked = sorted((found.get("probabilities") or {}).items(), key=lambda pair: -pair[1])
    width = max((len(label) for label, _ in ranked[:LABELS_SHOWN]), default=0)
    for label, probability in ranked[:LABELS_SHOWN]:
        bar = "━" * round(BAR * probability)
        lines.append(f"  {label:<{width}}  ")
        lines.append(f"{bar:<{BAR}}", style="green" if label == found["predicted"] else "blue")
        lines.append(f"  {probability:.3f}\n")
    rest = ranked[LABELS_SHOWN:]
    if rest:
        lines.append(f"  {len(rest)} more  {sum(value for _, value in rest):.3f}\n", style="dim")
    return lines
