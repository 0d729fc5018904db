"""Texts of several requests go through a model together: one thread a model, one bounded queue.

Nothing waits for a batch to fill: the thread takes what is there as soon as it is free. Under load
texts gather while it computes, so batches grow by themselves. A long text counts as several, for it
may have to be read to its end before it is cut to what the model reads.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

# So many characters of a text count as one more: to tokenise them may take as long as an answer.
CHARACTERS_OF_A_TEXT = 20_000
# Between so many characters the thread looks whether anybody still waits.
CHARACTERS_AT_ONCE = 200_000


class Answer(NamedTuple):
    """One text's probabilities and logits, in the order of the labels.

    is_full: whether it fills all tokens that the model reads, so that its end may be cut off.
    """

    probabilities: list[float]
    logits: list[float]
    is_full: bool = False


class QueueFullError(Exception):
    """So many texts wait already that these would not be answered in time."""


class ModelFailedError(Exception):
    """The model could not compute an answer; the reason is its cause."""


@dataclass
class _Job:
    texts: list[str]
    size: int
    answers: "asyncio.Future[list[Answer]]"


class Batcher:
    """Computes in a thread of its own what an event loop asks for.

    compute: the answers to some texts, in their order.
    observe: is told how many texts were computed together, and in how many seconds.
    """

    def __init__(
        self,
        compute: Callable[[list[str]], list[Answer]],
        batch_size: int,
        queue: int,
        observe: Callable[[int, float], None] = lambda texts, seconds: None,
    ) -> None:
        self._compute = compute
        self._batch_size = batch_size
        self._queue = queue
        self._observe = observe
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Texts that are not being computed yet; a long one counts as several."""
        return self._waiting

    @property
    def is_alive(self) -> bool:
        """Whether anybody will answer."""
        return self._thread.is_alive()

    def submit(self, texts: list[str]) -> "asyncio.Future[list[Answer]]":
        """The answers to come. From a running event loop; all calls from the same one.

        A future that is cancelled while it waits is not computed. Raises QueueFullError, but never
        because texts are long while nothing else waits; the future fails with ModelFailedError.
        """
        size = sum(1 + len(text) // CHARACTERS_OF_A_TEXT for text in texts)
        job = _Job(texts, size, asyncio.get_running_loop().create_future())
        with self._changed:
            if self._waiting + size > self._queue:
                self._forget_cancelled()
            is_full = self._jobs and self._waiting + size > self._queue
            if self._closed or is_full or len(texts) > self._queue:
                raise QueueFullError
            self._jobs.append(job)
            self._waiting += size
            self._changed.notify()
        return job.answers

    def _forget_cancelled(self) -> None:
        """Those whose time was up take no room from those who still wait."""
        self._jobs = deque(job for job in self._jobs if not job.answers.cancelled())
        self._waiting = sum(job.size for job in self._jobs)

    def end(self) -> None:
        """Take no more; the thread ends when what was taken is answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def close(self) -> None:
        """`end`, and wait until the thread has."""
        self.end()
        self.wait()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the thread has ended."""
        self._thread.join(seconds)

    def _work(self) -> None:
        while jobs := self._take():
            results = self._answer(jobs)
            try:
                jobs[0].answers.get_loop().call_soon_threadsafe(_deliver, results)
            except RuntimeError:  # the loop was closed: nobody waits any more
                return

    def _take(self) -> list[_Job]:
        """The jobs of the next batch, waiting for the first; none when the end has come."""
        with self._changed:
            while True:
                while not self._jobs:
                    if self._closed:
                        return []
                    self._changed.wait()
                jobs = self._next_jobs()
                if jobs:
                    return jobs

    def _next_jobs(self) -> list[_Job]:
        jobs: list[_Job] = []
        size = 0
        while self._jobs and (not jobs or size + self._jobs[0].size <= self._batch_size):
            job = self._jobs.popleft()
            self._waiting -= job.size
            if not job.answers.cancelled():
                jobs.append(job)
                size += job.size
        return jobs

    def _answer(self, jobs: list[_Job]) -> "list[tuple[_Job, list[Answer] | BaseException]]":
        """Every job with its answers or why there are none; nothing where nobody waits any more."""
        texts = [text for job in jobs for text in job.texts]
        started = time.perf_counter()
        computed: list[Answer] = []
        try:
            for part in _portions(texts):
                if all(job.answers.cancelled() for job in jobs):
                    return []
                computed += self._compute(part)
        except BaseException as error:  # a panic of the tokenizers library is no Exception
            if len(jobs) == 1:
                return [(jobs[0], error)]
            # One text that the model stumbles over must not harm those it happened to meet.
            return [result for job in jobs for result in self._answer([job])]
        self._observe(len(texts), time.perf_counter() - started)
        answers = iter(computed)
        return [(job, [next(answers) for _ in job.texts]) for job in jobs]


def _portions(texts: list[str]) -> Iterator[list[str]]:
    """The texts in their order, so many together that nobody's time is up long before their end."""
    part: list[str] = []
    characters = 0
    for text in texts:
        if part and characters + len(text) > CHARACTERS_AT_ONCE:
            yield part
            part, characters = [], 0
        part.append(text)
        characters += len(text)
    yield part


def _deliver(results: "list[tuple[_Job, list[Answer] | BaseException]]") -> None:
    for job, result in results:
        if job.answers.done():  # whoever asked has gone
            continue
        if isinstance(result, BaseException):
            failure = ModelFailedError(str(result))
            failure.__cause__ = result
            job.answers.set_exception(failure)
        else:
            job.answers.set_result(result)
