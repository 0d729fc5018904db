"""Which files changed since they were loaded: looked up beside the event loop."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from textassay.serving.models import ServedModel
from textassay.serving.places import Place

# A network file system may take any time; a probe is answered with what was known before.
SECONDS_TO_WAIT = 1.0


class ChangedFiles:
    """One look at a time, shared by all who ask meanwhile. For one event loop."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="changed-files")
        self._look: asyncio.Future[dict[Place, list[str]]] | None = None
        self._known: dict[Place, list[str]] = {}

    async def find(self, models: Sequence[ServedModel]) -> dict[str, list[str]]:
        """The changed files of each model; what the last look found where this one takes long."""
        if self._look is None or self._look.done():
            loop = asyncio.get_running_loop()
            self._look = loop.run_in_executor(self._thread, _look_at, models)
        done, _ = await asyncio.wait([self._look], timeout=SECONDS_TO_WAIT)
        if done:
            self._known = self._look.result()
        return {model.name: self._known.get(model.place, []) for model in models}


def _look_at(models: Sequence[ServedModel]) -> dict[Place, list[str]]:
    return {model.place: model.changed_files() for model in models}
