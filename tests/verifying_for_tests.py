"""A new artifact is held to its hallmark by the process at hand, which has imported everything.

The imports of a fresh process take longer than a small run. Whatever starts train.sh or a script
has the fresh one, in the tests as anywhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from textassay.artifacts import hallmark
from textassay.errors import GateError, TextassayError


@contextmanager
def verifying_here() -> Iterator[None]:
    """In the block `verify_in_fresh_process` verifies in this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hallmark, "run_in_fresh_process", _verify)
        yield


def _verify(module: str, arguments: list[str], complaint: str) -> None:
    assert module == hallmark.__name__
    folder, *base = arguments
    try:
        hallmark.verify(Path(folder), base[0].partition("=")[2] if base else None)
    except TextassayError as error:
        raise GateError(f"{complaint}: {error}") from None
