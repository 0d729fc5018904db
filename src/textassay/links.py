"""Links in a folder that came from somebody else: which of them lead out of it.

An artifact is a folder of files. A link in it that leads elsewhere would have a file of this
machine read as if it were the artifact's, and put into whatever is made of it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from textassay.errors import GateError

LONGEST_SHOWN = 200


def entries_below(folder: Path, hidden: bool = True) -> Iterator[Path]:
    """Everything below a folder but folders themselves; a link to a folder is not followed.

    Without `hidden` what lies in folders whose names begin with a point is left out: nothing of an
    artifact is read from there (.git, .venv).
    """
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if name in files or path.is_symlink():
                yield path
        if not hidden:
            folders[:] = [name for name in folders if not name.startswith(".")]


def is_own_file(path: Path, folder: Path) -> bool:
    """Whether there is a file at `path`, and it lies in `folder`, however many links lead to it.

    What a folder of the hub's cache holds are links to its blobs, which count as its own.
    """
    return path.is_file() and not _leads_out(path, folder)


def find_strange_entry(folder: Path) -> str | None:
    """A sentence on the first link below `folder` that leads out of it, or on what is no file.

    `folder` itself may be a link: it is what the user has named. None where all is well.
    """
    strange = (describe_strange(path, folder) for path in sorted(entries_below(folder, False)))
    return next((what for what in strange if what), None)


def describe_strange(path: Path, folder: Path) -> str | None:
    """Why what lies at `path` is no part of `folder`; None where it is, or nothing is there."""
    name = os.path.relpath(path, folder)
    if path.is_symlink() and _leads_out(path, folder):
        target = os.path.realpath(path)[:LONGEST_SHOWN]
        return (
            f"{folder}: {name} is a link to {target}, outside this folder, which would be read and "
            "passed on as if it belonged to it. If it does, copy the folder with what its links "
            f"lead to (cp -rL {folder} COPY), and name the copy."
        )
    if path.exists() and not path.is_file() and not path.is_dir():
        return f"{folder}: {name} is a pipe or a device, and no file; take it away."
    return None


def refuse_links(folder: Path) -> None:
    """GateError where anything below `folder` is a link that leads out of it, or is no file."""
    what = find_strange_entry(folder)
    if what:
        raise GateError(what)


def refuse_link(path: Path, folder: Path) -> None:
    """GateError where `path`, which lies in `folder`, is a link that leads out, or is no file."""
    what = describe_strange(path, folder)
    if what:
        raise GateError(what)


def _leads_out(path: Path, folder: Path) -> bool:
    root, target = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
    return not target.is_relative_to(root) and target.parent != _blobs_of(root)


def _blobs_of(folder: Path) -> Path | None:
    """Where the hub's cache keeps the files of a folder: models--X/snapshots/REVISION/… ."""
    for place in (folder, *folder.parents):
        snapshots = place.parent
        if snapshots.name == "snapshots" and snapshots.parent.name.startswith("models--"):
            return snapshots.parent / "blobs"
    return None
