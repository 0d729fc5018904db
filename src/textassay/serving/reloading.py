"""Another version of the models, loaded beside the one that answers, then put in its place.

Each request is answered to its end by the model that it began with. Whatever goes wrong while the
new version is loaded, the old one stays.
"""

import asyncio
import gc
import threading
from collections.abc import Callable, Sequence
from typing import Any

from textassay.errors import TextassayError, first_line
from textassay.models.processor import return_freed_memory
from textassay.serving.logs import log
from textassay.serving.models import ServedModel, load_models
from textassay.serving.places import Place, find_places
from textassay.serving.service import Service


class Reloader:
    """The change of models in one server process. For one thread beside the event loop's."""

    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self._service = service
        self._loop = loop
        self._next: dict[str, ServedModel] = {}
        self._retired: list[ServedModel] = []

    def prepare(self, places: Sequence[Place]) -> tuple[Place, ...]:
        """Load and verify models beside those that answer; their places with their versions.

        Raises what loading raises; then nothing is prepared.
        """
        self.discard()
        service = self._service
        self._next = load_models(service.settings, places, service.metrics, verify=True)
        return tuple(model.place for model in self._next.values())

    def discard(self) -> None:
        """Forget what was prepared."""
        for model in self._next.values():
            model.retire()
        self._next = {}

    def swap(self) -> None:
        """Let what was prepared answer from now on. Returns when the event loop has done it."""
        done = threading.Event()

        def swap_in_loop() -> None:
            self._retired = self._service.replace_models(self._next)
            done.set()

        self._loop.call_soon_threadsafe(swap_in_loop)
        done.wait()
        self._next = {}

    def free_memory(self) -> None:
        """Wait for the last requests of the models that were replaced, then free their memory."""
        while self._retired:
            self._retired.pop().batcher.wait(self._service.settings.limits.seconds)
        # Those of the start are where the collector does not look.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        return_freed_memory()


def reload_when_asked(asked: threading.Event, reloader: Reloader, service: Service) -> None:
    """Reload the models of a server without workers whenever `asked` is set. Never returns."""
    while True:
        asked.wait()
        asked.clear()
        service.last_reload = carry_out(lambda: _reload(reloader, service))
        reloader.free_memory()


def carry_out(reload: Callable[[], Sequence[Place]]) -> dict[str, Any]:
    """Call `reload`, log what came of it, and return that for `/ready` and `/info`."""
    log("reloading")
    try:
        places = reload()
    except Exception as error:  # whatever it is, the models that answer must go on
        reason = describe_error(error)
        log("reload_failed", error=reason, kept="the models that were loaded before")
        return {"succeeded": False, "error": reason}
    log("reloaded", models={one.name: [one.folder, one.version] for one in places})
    return {"succeeded": True, "error": None}


def describe_error(error: BaseException) -> str:
    """One line on why a model was not loaded."""
    if isinstance(error, TextassayError):
        return " ".join(str(error).split())
    return f"{type(error).__name__}: {first_line(error)[:300]}"


def _reload(reloader: Reloader, service: Service) -> tuple[Place, ...]:
    places = reloader.prepare(find_places(service.settings))
    reloader.swap()
    return places
