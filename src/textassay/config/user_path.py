"""Paths on command lines."""

import os
from pathlib import Path
from typing import Any

import click


class UserPath(click.Path):
    """A path in which `~` is the user's home: in --output_dir=~/x no shell says so."""

    def __init__(self, **given: Any) -> None:
        super().__init__(path_type=Path, **given)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The path, not looked at yet."""
        return super().convert(os.path.expanduser(value), param, ctx)  # noqa: PTH111 (it may fail)
