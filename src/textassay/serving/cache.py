"""Answers that were computed lately: as many as told, the ones unused longest leave first."""

from collections import OrderedDict
from hashlib import blake2b

from textassay.serving.batching import Answer


class AnswerCache:
    """A bounded cache of answers by a model's version and text. For one thread: the event loop's.

    Texts are kept as 16 bytes of their hash, so long ones need no more memory than short ones, and
    nothing that anybody wrote stays in it.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._answers: OrderedDict[tuple[str, bytes], Answer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, version: str, text: str) -> Answer | None:
        """The answer of a version to a text, if it is still known."""
        if not self._size:
            return None
        key = _key(version, text)
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, version: str, text: str, answer: Answer) -> None:
        """Keep an answer; the one unused longest makes room."""
        if not self._size:
            return
        key = _key(version, text)
        self._answers[key] = answer
        self._answers.move_to_end(key)
        if len(self._answers) > self._size:
            self._answers.popitem(last=False)


def _key(version: str, text: str) -> tuple[str, bytes]:
    return version, blake2b(text.encode(), digest_size=16).digest()
