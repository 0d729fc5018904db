"""Paths on command lines."""

from pathlib import Path
from typing import Any

import click

from textassay.files import from_home, project_root


class UserPath(click.Path):
    """A path in which `~` is the user's home: in --output_dir=~/x no shell says so."""

    def __init__(self, **given: Any) -> None:
        super().__init__(path_type=Path, **given)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The path, not looked at yet."""
        return super().convert(from_home(value), param, ctx)


class JobPath(UserPath):
    """The path of a job or a data file; where nothing lies there, that of a shipped job.

    So `jobs/quickstart.yaml` and `quickstart` are found by who has the package and no checkout.
    """

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The path, not looked at yet."""
        path: Path = super().convert(value, param, ctx)
        parent, name = path.parent.name or "jobs", path.name
        if path.exists() or path.is_absolute() or parent != "jobs" or len(path.parts) > 2:
            return path
        shipped = project_root() / "jobs" / f"{name.removesuffix('.yaml')}.yaml"
        return shipped if shipped.is_file() else path
