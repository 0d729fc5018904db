"""A server's state, and how it comes to an answer: cache, queue, model."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from textassay.console import counted
from textassay.serving.batching import Answer, ModelFailedError, QueueFullError
from textassay.serving.bodies import RefusedError
from textassay.serving.cache import AnswerCache
from textassay.serving.changes import ChangedFiles
from textassay.serving.logs import log
from textassay.serving.metrics import Metrics
from textassay.serving.models import ServedModel
from textassay.serving.settings import Settings

RETRY_SECONDS = 1
# So many bodies of the largest size may be in memory at once.
LARGEST_BODIES = 32


class Service:
    """The models of one server process, and what all its requests share. For one event loop."""

    def __init__(
        self, settings: Settings, models: dict[str, ServedModel], metrics: Metrics
    ) -> None:
        self.settings = settings
        self.models = models
        self.metrics = metrics
        self.draining = False
        self.in_flight = 0
        # Of a server with several workers: how many there are, should be, and why some are missing.
        self.workers: dict[str, Any] | None = None
        # What came of the last SIGHUP.
        self.last_reload: dict[str, Any] | None = None
        self._held_bytes = 0
        self._cache = AnswerCache(settings.cache_size)
        self._changes = ChangedFiles()

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Count a request as long as it is answered: a server that ends waits for all of them."""
        self.in_flight += 1
        self.metrics.in_flight.inc()
        try:
            yield
        finally:
            self.in_flight -= 1
            self.metrics.in_flight.dec()

    @contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """What counts a request's bytes, which are in memory until the block ends.

        RefusedError 429 where those of all requests together are too many.
        """
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            if self._held_bytes + size > LARGEST_BODIES * self.settings.limits.body_bytes:
                message = "as many bytes of requests are in memory as the server takes"
                raise RefusedError(429, "overloaded", f"{message}; come again later", _retry())
            held += size
            self._held_bytes += size

        try:
            yield hold
        finally:
            self._held_bytes -= held

    @property
    def is_healthy(self) -> bool:
        """Whether every model has somebody who computes its answers."""
        return all(model.batcher.is_alive for model in self.models.values())

    def replace_models(self, models: dict[str, ServedModel]) -> list[ServedModel]:
        """Let these answer every request that begins from now on; the ones that did so before."""
        before, self.models = list(self.models.values()), models
        for model in before:
            model.retire()
        return before

    async def changed_files(self) -> dict[str, list[str]]:
        """For each model the files that are not those that were loaded; see `ChangedFiles`."""
        return await self._changes.find(list(self.models.values()))

    def find(self, name: str | None) -> ServedModel:
        """A model by its name, or the default one. RefusedError 404 for one that is not served."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            known = ", ".join(self.models)
            raise RefusedError(
                404, "not_found", f"model: no such model is served; there is {known}"
            )
        return self.models[name]

    async def answers(self, model: ServedModel, texts: list[str]) -> list[Answer]:
        """The answer to every text, in order. RefusedError when there is no time or no room."""
        cached = {text: self._cache.get(model.version, text) for text in texts}
        known = {text: answer for text, answer in cached.items() if answer is not None}
        unknown = [text for text in cached if text not in known]
        self.metrics.cache_hits.labels(model.name).inc(len(texts) - len(unknown))
        self.metrics.cache_misses.labels(model.name).inc(len(unknown))
        if unknown:
            for text, answer in zip(unknown, await self._compute(model, unknown), strict=True):
                known[text] = answer
                self._cache.put(model.version, text, answer)
        found = [known[text] for text in texts]
        for answer in found:
            label = model.labels[answer.probabilities.index(max(answer.probabilities))]
            self.metrics.predictions.labels(model.name, label).inc()
        return found

    async def _compute(self, model: ServedModel, texts: list[str]) -> list[Answer]:
        queue = self.metrics.queue.labels(model.name)
        try:
            async with asyncio.timeout(self.settings.limits.seconds):
                waiting = model.batcher.submit(texts)
                queue.set(model.batcher.waiting)
                return await waiting
        except QueueFullError:
            message = f"{counted(model.batcher.waiting, 'text')} waiting already; come again later"
            raise RefusedError(429, "overloaded", message, _retry()) from None
        except TimeoutError:
            message = f"no answer within {counted(self.settings.limits.seconds, 'second')}"
            raise RefusedError(503, "overloaded", message, _retry()) from None
        except ModelFailedError as error:
            cause = error.__cause__
            log("error", model=model.name, error=f"{type(cause).__name__}: {cause}")
            message = "the model failed; the server's log says why"
            raise RefusedError(500, "backend", message) from None
        finally:
            queue.set(model.batcher.waiting)


def _retry() -> dict[str, str]:
    return {"Retry-After": str(RETRY_SECONDS)}
