"""What a server is told at its start: models, address, limits; plain values, for workers too."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from textassay.errors import UsageError
from textassay.prediction.finding import PLACES

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SEED = re.compile(r"seed-\d+")


@dataclass(frozen=True)
class Limits:
    """What one request, and all that wait together, may ask for.

    `queue` counts texts that wait for one model; who finds it full is told to come again.
    `connections` and what follows are limits of HTTP, for each worker.
    """

    body_bytes: int = 2_000_000
    text_chars: int = 100_000
    items: int = 128
    queue: int = 1024
    seconds: float = 30.0
    connections: int = 512
    head_bytes: int = 65_536
    head_seconds: float = 10.0
    # Longer than the 60 seconds after which most that balance load close an idle connection: who
    # closes first never sends a request into a connection that the other side is just closing.
    idle_seconds: float = 75.0


@dataclass(frozen=True)
class Settings:
    """A server's settings. `models` are (name, directory or hub name), the default one first.

    `backend` says which artifact of a run is served.

    `threads` is how many threads of the CPU work on one batch; None leaves it to the artifact.
    `shutdown_seconds` is how long requests that were taken may go on after a signal.
    """

    models: tuple[tuple[str, str], ...]
    backend: str = "auto"
    host: str = "127.0.0.1"
    port: int = 8000
    limits: Limits = field(default_factory=Limits)
    cache_size: int = 10_000
    batch_size: int = 64
    device: str = "auto"
    threads: int | None = None
    base: str | None = None
    token: str | None = None
    log_texts: bool = False
    workers: int = 1
    shutdown_seconds: float = 30.0


def name_models(arguments: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """(name, directory) for every `NAME=DIR` or `DIR` of the command line.

    A directory's own name is its job's, with the seed where two would be the same. Raises
    UsageError for names that are no names in an address, or that are given twice.
    """
    split = [_split(argument) for argument in arguments]
    short = [given or _parts(place)[0] for given, place in split]
    names = [
        name if given or short.count(name) == 1 else "-".join(_parts(place))
        for name, (given, place) in zip(short, split, strict=True)
    ]
    for name, (_, place) in zip(names, split, strict=True):
        if names.count(name) > 1:
            raise UsageError(
                f"{place}: two models would be called {name!r}; name them: first={place} second=…"
            )
    return tuple((name, place) for name, (_, place) in zip(names, split, strict=True))


def read_token(path: Path) -> str:
    """The bearer token in a file, without the line's end. UsageError where there is none."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        raise UsageError(f"--token_file {path}: holds other characters than ASCII.") from None
    if not token or re.search(r"\s", token):
        raise UsageError(f"--token_file {path}: must hold one token, without spaces, on one line.")
    return token


def _split(argument: str) -> tuple[str | None, str]:
    given, equals, place = argument.partition("=")
    if not equals or Path(argument).exists():
        return None, argument
    if not NAME.fullmatch(given):
        raise UsageError(
            f"{argument}: {given!r} is no name for a model; use letters, digits, '.', '_' and '-'."
        )
    if not place:
        raise UsageError(f"{argument}: names no directory after the '='.")
    return given, place


def _parts(place: str) -> list[str]:
    """What a place may be called: its job, then its seed and artifact as far as they are named."""
    path = Path(place).expanduser()
    parts = [part for part in (path.resolve() if path.exists() else path).parts if part != "/"]
    tail: list[str] = []
    while len(parts) > 1 and (parts[-1] in PLACES or SEED.fullmatch(parts[-1])):
        tail.append(parts.pop())
    job = re.sub(r"[^A-Za-z0-9._-]+", "-", parts[-1]).strip("-.") if parts else ""
    return [job or "model", *reversed(tail)]
