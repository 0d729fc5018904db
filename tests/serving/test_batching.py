"""Requests meet in a batch, and leave with their own answers."""

import asyncio
import threading

import pytest

from textassay.serving.batching import Answer, Batcher, ModelFailedError, QueueFullError


def answer(text: str) -> Answer:
    return Answer([float(len(text))], [float(hash(text))])


class Model:
    """Computes when it is allowed to, and remembers what it was given together."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may_go = threading.Event()
        self.began = threading.Event()

    def __call__(self, texts: list[str]) -> list[Answer]:
        self.batches.append(list(texts))
        self.began.set()
        assert self.may_go.wait(10)
        if "poison" in texts:
            raise ValueError("cannot read it")
        return [answer(text) for text in texts]


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def make(model):
    made: list[Batcher] = []

    def make_batcher(batch_size: int = 4, queue: int = 100, **told) -> Batcher:
        made.append(Batcher(model, batch_size, queue, **told))
        return made[-1]

    yield make_batcher
    model.may_go.set()
    for batcher in made:
        batcher.close()
        assert not batcher.is_alive


async def hold(batcher: Batcher, model: Model) -> asyncio.Future:
    """Let the model be busy with one text."""
    first = batcher.submit(["first"])
    await asyncio.to_thread(model.began.wait, 10)
    return first


def test_what_waits_goes_together_up_to_the_batch_size(make, model) -> None:
    async def run() -> None:
        seen: list[int] = []
        batcher = make(4, observe=lambda texts, seconds: seen.append(texts))
        futures = [await hold(batcher, model)]
        futures += [batcher.submit([f"text {n}"]) for n in range(6)]
        assert batcher.waiting == 6
        model.may_go.set()
        answers = await asyncio.gather(*futures)
        assert answers[1:] == [[answer(f"text {n}")] for n in range(6)]
        assert [len(batch) for batch in model.batches] == [1, 4, 2] == seen
        assert batcher.waiting == 0

    asyncio.run(run())


def test_an_idle_model_starts_at_once_and_a_large_request_is_not_cut(make, model) -> None:
    async def run() -> None:
        model.may_go.set()
        batcher = make(4)
        texts = [f"text {n}" for n in range(9)]
        assert await batcher.submit(texts) == [answer(text) for text in texts]
        assert model.batches == [texts]

    asyncio.run(run())


def test_a_full_queue_takes_no_more_and_loses_nothing(make, model) -> None:
    async def run() -> None:
        batcher = make(4, queue=3)
        futures = [await hold(batcher, model), batcher.submit(["b", "c"])]
        with pytest.raises(QueueFullError):
            batcher.submit(["d", "e"])
        futures.append(batcher.submit(["f"]))
        model.may_go.set()
        assert [len(found) for found in await asyncio.gather(*futures)] == [1, 2, 1]

    asyncio.run(run())


def test_one_text_that_cannot_be_read_harms_nobody_else(make, model) -> None:
    async def run() -> None:
        batcher = make(4)
        futures = [await hold(batcher, model), batcher.submit(["good"]), batcher.submit(["poison"])]
        model.may_go.set()
        found = await asyncio.gather(*futures, return_exceptions=True)
        assert found[1] == [answer("good")]
        assert isinstance(found[2], ModelFailedError) and "cannot read it" in str(found[2])
        assert await batcher.submit(["after"]) == [answer("after")]

    asyncio.run(run())


def test_what_nobody_waits_for_is_not_computed(make, model) -> None:
    async def run() -> None:
        batcher = make(4)
        first = await hold(batcher, model)
        gone = batcher.submit(["gone"])
        stays = batcher.submit(["stays"])
        gone.cancel()
        model.may_go.set()
        await asyncio.gather(first, stays)
        assert model.batches == [["first"], ["stays"]]
        assert batcher.waiting == 0

    asyncio.run(run())


def test_closing_answers_what_was_taken_and_refuses_the_rest(make, model) -> None:
    async def run() -> None:
        batcher = make(1)
        futures = [await hold(batcher, model), batcher.submit(["b"]), batcher.submit(["c"])]
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        await asyncio.sleep(0.05)
        with pytest.raises(QueueFullError):
            batcher.submit(["late"])
        model.may_go.set()
        await closing
        assert [len(found) for found in await asyncio.gather(*futures)] == [1, 1, 1]

    asyncio.run(run())


def test_long_texts_count_as_several_but_are_taken_where_nothing_waits(make, model) -> None:
    async def run() -> None:
        batcher = make(4, queue=5)
        futures = [await hold(batcher, model), batcher.submit(["x" * 100_000])]
        assert batcher.waiting == 6
        with pytest.raises(QueueFullError):
            batcher.submit(["b"])
        model.may_go.set()
        assert [len(found) for found in await asyncio.gather(*futures)] == [1, 1]
        assert await batcher.submit(["b"]) == [answer("b")]

    asyncio.run(run())


def test_long_texts_that_nobody_waits_for_any_more_are_left_in_the_middle(make, model) -> None:
    async def run() -> None:
        batcher = make(4)
        several = [letter * 90_000 for letter in "abcdef"]
        first = batcher.submit(several)
        await asyncio.to_thread(model.began.wait, 10)
        first.cancel()
        model.may_go.set()
        assert await batcher.submit(["after"]) == [answer("after")]
        assert model.batches == [several[:2], ["after"]]
        assert await batcher.submit(several) == [answer(text) for text in several]

    asyncio.run(run())
