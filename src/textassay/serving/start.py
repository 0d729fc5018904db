"""The steps of `textassay serve`."""

import resource

from textassay.console import tell
from textassay.errors import UsageError
from textassay.serving.hangups import Hangups
from textassay.serving.places import find_places
from textassay.serving.settings import Settings

# Files that a server needs beside its connections: models, libraries, what is read by torch.
OTHER_FILES = 200


def start(settings: Settings) -> None:
    """Take the address, choose each model's artifact, serve until a signal ends it."""
    if settings.limits.items > settings.limits.queue:
        raise UsageError(
            f"--max_items {settings.limits.items}: is more than --max_queue "
            f"{settings.limits.queue}, so such a request could never be answered."
        )
    try:
        from textassay.serving.connections import RESERVE
        from textassay.serving.server import address_of, bind, serve
    except ImportError as error:
        raise UsageError(
            f"serving needs {error.name}, which is not installed; run: "
            "python -m pip install -c constraints.txt -e '.[serving,onnx]'"
        ) from None

    _allow_files_of(settings.limits.connections + RESERVE)
    places = find_places(settings)
    taken = bind(settings.host, settings.port)

    def is_ready() -> None:
        for place in places:
            tell(f"model    {place.name}: {place.folder}")
        tell(f"serving  {address_of(taken)}")

    hangups = Hangups()
    if settings.workers == 1:
        serve(settings, places, taken, hangups, is_ready)
        return
    from textassay.serving.workers import Workers

    Workers(settings, places, taken, hangups).run(is_ready)


def _allow_files_of(connections: int) -> None:
    """Let this process open a file for each connection. UsageError where the system does not."""
    wanted = connections + OTHER_FILES
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now != resource.RLIM_INFINITY and now < wanted:
        if most != resource.RLIM_INFINITY and most < wanted:
            raise UsageError(
                f"--max_connections: {connections:,} connections need {wanted:,} open files, and "
                f"this process may have {most:,}; name fewer, or raise the limit (ulimit -n)."
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
