"""Which column is the text and which the label; a guess is said, a doubt is an error."""

from dataclasses import dataclass

from textassay.config.names import nearest
from textassay.data.read import Rows
from textassay.errors import DataError

TEXT_NAMES = (
    "sentence", "content", "review", "comment", "text_a", "review_body", "review_text", "tweet",
    "message", "utterance", "document", "body", "title", "headline", "文本", "内容", "评论",
)  # fmt: skip
LABEL_NAMES = (
    "target", "sentiment", "stars", "category", "class", "labels", "label_name", "emotion",
    "rating", "score", "topic", "intent", "polarity", "标签", "情感", "类别",
)  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """The names of the two columns that count."""

    text: str
    label: str


def find_columns(rows: Rows, text: str | None = None, label: str | None = None) -> Columns:
    """The columns of `rows`: as told, else `text` and `label`, else one known name each.

    Raises DataError where no column or more than one could be meant.
    """
    names = list(rows.columns)
    found = Columns(
        find_text_column(rows.file, names, text),
        _find(rows.file, names, "label", label, LABEL_NAMES),
    )
    if found.text == found.label:
        raise DataError(f"{rows.file}: {found.text!r} cannot be both the text and the label.")
    return found


def find_text_column(file: str, names: list[str], told: str | None = None) -> str:
    """The column of the text alone, by the same rules."""
    return _find(file, names, "text", told, TEXT_NAMES)


def _find(file: str, names: list[str], role: str, told: str | None, known: tuple[str, ...]) -> str:
    if told is not None:
        if told not in names:
            raise DataError(f"{file}: has no column {told!r}; {nearest(told, names)}")
        return told
    lowered = {name.lower(): name for name in names}
    if role in lowered:
        return lowered[role]
    candidates = [lowered[name] for name in known if name in lowered]
    if len(candidates) == 1:
        return candidates[0]
    flag = f"--{role}_column"
    if candidates:
        listed = " and ".join(repr(name) for name in candidates)
        raise DataError(f"{file}: {listed} could each be the {role}; say which with {flag}.")
    shown = ", ".join(repr(name[:40]) for name in names)
    raise DataError(
        f"{file}: has no {role} column among {shown}; name it with {flag}, or, if the file "
        "has no header line, name its columns with --column_names text,label."
    )
