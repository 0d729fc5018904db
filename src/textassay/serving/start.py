"""The steps of `scripts/serve.py`."""

from dataclasses import replace

from textassay.console import tell
from textassay.errors import UsageError
from textassay.serving.choosing import choose_artifact
from textassay.serving.settings import Settings


def start(settings: Settings, backend: str) -> None:
    """Take the address, choose each model's artifact, serve until a signal ends it."""
    if settings.limits.items > settings.limits.queue:
        raise UsageError(
            f"--max_items {settings.limits.items}: is more than --max_queue "
            f"{settings.limits.queue}, so such a request could never be answered."
        )
    try:
        from textassay.serving.server import address_of, bind, serve
    except ImportError as error:
        raise UsageError(
            f"serving needs {error.name}, which is not installed; run: "
            "python -m pip install -c constraints.txt -e '.[serving,onnx]'"
        ) from None

    chosen = tuple(
        (name, str(choose_artifact(place, backend, settings.device)))
        for name, place in settings.models
    )
    taken = bind(settings.host, settings.port)
    settings = replace(settings, models=chosen)

    def is_ready() -> None:
        for name, place in settings.models:
            tell(f"model    {name}: {place}")
        tell(f"serving  {address_of(taken)}")

    if settings.workers == 1:
        serve(settings, taken, is_ready)
        return
    from textassay.serving.workers import Workers

    Workers(settings, taken).run(is_ready)
