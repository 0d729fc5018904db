"""Files that appear whole or not at all, hashes, and the few folders that we know by name."""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from textassay.errors import GateError, TextassayError
from textassay.temporary import (
    close_to_others,
    is_safe_above,
    make_private,
    private_folder,
)

# What lies in the cache.
CACHES = {
    "compiled", "consolidated", "encoded", "hashes", "predict_history", "students", "teachers",
}  # fmt: skip
# What a directory that is being replaced is called meanwhile.
OLD = ".old"
# Clocks of file systems have ticks of up to two seconds.
SECONDS_TO_SETTLE = 3.0


def from_home(path: str) -> str:
    """A path in which `~` at the beginning is the user's home: quoted, no shell has said so."""
    return os.path.expanduser(path)  # noqa: PTH111 (it may be a hub name, and pathlib fails)


def path_in_environment(name: str) -> Path | None:
    """The path that an environment variable names; None where it is not set, or empty."""
    value = os.environ.get(name)
    return Path(from_home(value)) if value else None


def project_root() -> Path:
    """The folder that holds `jobs/`, `data/` and `slurm/`.

    TEXTASSAY_HOME, or what a wheel brought with the package, or the checkout that this file is in.
    """
    brought = Path(__file__).parent / "home"
    here = brought if brought.is_dir() else Path(__file__).parents[2]
    return path_in_environment("TEXTASSAY_HOME") or here


def cache_dir() -> Path:
    """Where tokenised rows and baseline scores are kept between runs (TEXTASSAY_CACHE).

    For a user without a home directory it lasts as long as the machine is up.
    """
    named = path_in_environment("TEXTASSAY_CACHE")
    if named:
        return named
    try:
        return Path("~/.cache/textassay").expanduser()
    except RuntimeError:  # no HOME, and the user database does not know this user
        return private_folder() / "cache"


def cache_folder(name: str = "") -> Path:
    """A folder in the cache, or the cache itself, which this user alone can read.

    Where that is another user's, or cannot be written, it is one that lasts as long as the machine
    is up.
    """
    root = cache_dir()
    folder = root / name
    with suppress(OSError):
        if _is_own_cache(root) and (not name or make_private(folder)):
            with tempfile.TemporaryFile(dir=folder):
                return folder
    folder = private_folder() / "cache" / name
    make_private(folder)
    return folder


def _is_own_cache(root: Path) -> bool:
    """Whether what is made in the cache's folder stays ours; closed to others where it is ours.

    A folder that somebody has named, with other files in it, keeps its mode.
    """
    is_a_cache = not root.exists() or {path.name for path in root.iterdir()} <= CACHES
    return (is_a_cache and make_private(root, holds_folders=True)) or is_safe_above(root)


@contextmanager
def replacing(path: Path, private: bool = False) -> Iterator[Path]:
    """Yield a scratch path beside `path`; rename it over `path` only if the block succeeds.

    The scratch path may become a file or a directory. Whatever was at `path` stays untouched until
    the new content is complete. What is `private` nobody else can read. An error of ours names
    `path` where it would name the scratch path, which is gone by then.
    """
    holder = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        scratch = holder / path.name
        yield scratch
        if private:
            close_to_others(scratch)
        if scratch.is_dir() and path.exists():
            path.rename(holder / OLD)
        scratch.replace(path)
    except TextassayError as error:
        if holder:
            named = str(error).replace(str(holder / path.name), str(path))
            error.args = (named.replace(str(holder), str(path.parent)), *error.args[1:])
        raise
    except OSError as error:
        # A full disk does not say which file it was, and nobody knows the scratch path.
        elsewhere = holder and error.filename and str(holder) not in str(error.filename)
        if not elsewhere:
            error.filename = str(path)
        raise
    finally:
        if holder:
            settle_interrupted(holder, path)


def settle_interrupted(holder: Path, path: Path) -> None:
    """Remove the scratch folder of `replacing(path)`, and put back what it had taken away.

    The second of its two renames may have failed, or never have come.
    """
    if (holder / OLD).exists() and not path.exists():
        (holder / OLD).rename(path)
    shutil.rmtree(holder, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


class JsonError(GateError, ValueError):
    """A file that should hold JSON, or an object of it, and does not; `reason` says why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: cannot be read as JSON ({reason}); it was changed, or cut off.")
        self.reason = reason


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises JsonError where it holds something else."""
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise JsonError(path, str(error)[:200]) from None


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises JsonError where it holds something else."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise JsonError(path, f"a {type(content).__name__} where an object is expected")
    return content


def parse_json(text: str | bytes) -> Any:
    """What JSON of somebody else's says. ValueError also where it is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, as `sha256:<hex>`."""
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_remembered(path: Path) -> str:
    """`sha256_file`, read only once as long as the file stays what it is.

    The hash is kept in the cache by what changes with any write: size, inode, mtime and ctime,
    which unlike mtime nobody can set. A file that changed a moment ago is not remembered: it may
    change again within the same tick of the clock.
    """
    path = path.resolve()
    state = path.stat()
    key = [str(path), state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns]
    key.append(state.st_ctime_ns)
    name = sha256_text(str(path)).removeprefix("sha256:")
    memory = cache_folder("hashes") / f"{name}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        remembered = read_json(memory)
        if remembered["file"] == key:
            return str(remembered["sha256"])
    found = sha256_file(path)
    if time.time() - max(state.st_mtime, state.st_ctime) > SECONDS_TO_SETTLE:
        with suppress(OSError), replacing(memory, private=True) as scratch:
            scratch.write_text(json.dumps({"file": key, "sha256": found}))
    return found


def sha256_files(paths: Iterable[Path], hash_of: Callable[[Path], str] = sha256_file) -> str:
    """One hash over several files: a single file's own, else a hash of sorted names and hashes.

    A single file keeps its own hash so that it can be compared with the one a hub publishes.
    """
    named = sorted((path.name, path) for path in paths)
    if len(named) == 1:
        return hash_of(named[0][1])
    return sha256_text(*(f"{name} {hash_of(path)}" for name, path in named))


def sha256_text(*parts: str) -> str:
    """The SHA-256 of several texts; where one ends and the next begins counts."""
    return sha256_texts(parts)


def sha256_texts(parts: Iterable[str]) -> str:
    """`sha256_text` of any number of texts, one at a time."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return "sha256:" + digest.hexdigest()
