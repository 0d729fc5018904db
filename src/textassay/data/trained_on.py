"""What a model knows of the rows that it was trained on, so that others are read alike."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from textassay.files import read_json

# The key of our settings in a config.json, which models/source.py has too, but imports torch.
SETTINGS = "textassay"
TEXT_COLUMN = "text_column"


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """Labels, which count as they are written, and the column of the text, where it was told.

    `text_column` may name several columns by commas.
    """

    labels: tuple[str, ...] = ()
    text_column: str | None = None

    def text_column_in(self, names: Collection[str]) -> str | None:
        """The column of the text where a file with these columns has it, all parts of it."""
        column = self.text_column
        if column is None or column in names:
            return column
        return column if {part.strip() for part in column.split(",")} <= set(names) else None


def trained_on(folder: Path) -> TrainedOn:
    """The labels and the text column that an artifact's config.json holds; nothing without one.

    Whether the file can be believed is for those to say who load the artifact.
    """
    try:
        content = read_json(folder / "config.json")
        names, settings = content.get("id2label"), content.get(SETTINGS)
    except (OSError, ValueError, AttributeError):
        return TrainedOn()
    column = settings.get(TEXT_COLUMN) if isinstance(settings, dict) else None
    return TrainedOn(
        labels=tuple(map(str, names.values())) if isinstance(names, dict) else (),
        text_column=column if isinstance(column, str) else None,
    )
