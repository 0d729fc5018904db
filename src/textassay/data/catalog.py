"""Known data sets: one YAML each in data/catalog, with columns, label names and licence."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from textassay.config.names import nearest
from textassay.errors import UsageError
from textassay.files import path_in_environment, project_root


class Form(BaseModel):
    """How one copy of a set writes its rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str | None = None  # for the hub: its name there; locally: a path in this project
    config: str | None = None
    files: dict[str, list[str]] | None = None
    column_names: list[str] | None = None
    text: str | None = None
    label: str | None = None
    values: dict[str, str] | None = None  # what stands in the column -> the label's name


class Entry(BaseModel):
    """A known data set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    language: str
    licence: str
    labels: list[str]
    open_labels: bool = False  # whether rows may have others, which come behind these
    split_seed: int = 0
    local: Form = Form()
    hub: Form | None = None

    def values(self, form: Form) -> dict[str, str] | None:
        """What may stand in the label column of `form`, and the label that it means.

        None where any word may stand there and means itself.
        """
        if self.open_labels:
            return None
        by_position = {str(index): name for index, name in enumerate(self.labels)}
        return form.values or by_position

    def order(self, found: Iterable[str]) -> list[str]:
        """The labels in their order, and behind them those that were found besides."""
        return [*self.labels, *sorted(set(found) - set(self.labels))]

    def local_folder(self) -> Path | None:
        """Where a local copy lies: in the project, or under TEXTASSAY_DATA_DIR by its name."""
        if self.local.path:
            return project_root() / self.local.path
        root = path_in_environment("TEXTASSAY_DATA_DIR")
        folder = root / self.name if root else None
        return folder if folder and folder.exists() else None


def read_entry(name: str) -> Entry:
    """The catalog entry of that name. Raises UsageError that names the nearest one."""
    folder = project_root() / "data" / "catalog"
    path = folder / f"{name}.yaml"
    if not path.is_file() or path.parent != folder or path.stem != name:
        known = sorted(p.stem for p in folder.glob("*.yaml"))
        raise UsageError(f"data.name: {name!r} is not in data/catalog; {nearest(name, known)}")
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for form in (content.get("local") or {}, content.get("hub") or {}):
        if form.get("values"):
            form["values"] = {str(raw): name for raw, name in form["values"].items()}
    return Entry.model_validate({"name": name, **content})
