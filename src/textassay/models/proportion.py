"""A model is no larger than the files that it is made from: compared before anything is reserved.

A number in config.json costs a few bytes, and what it makes of a model may cost gigabytes.
"""

import math
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from textassay.console import counted
from textassay.errors import GateError
from textassay.files import read_json
from textassay.models.pickled import BROKEN, why_unread
from textassay.models.plain_unpickler import OddSizesError
from textassay.models.source import shapes_in, weight_files

# Tied weights lie in a file once, 4 bits are packed by two, and a head may not be there at all.
TIMES, MORE_ELEMENTS, MORE_TENSORS = 4, 16_000_000, 1000
# Names of numbers that make lists before there is a model, and the most that any model has of them.
COUNTS = re.compile(r"(layers?|blocks|depth|num_labels)$")
MOST_COUNTED = 100_000


@contextmanager
def refuse_larger(what: str, shapes: Sequence[Sequence[int]]) -> Iterator[None]:
    """GateError where the block makes modules much larger than tensors of these shapes.

    It comes when a parameter or buffer is put into its module, before anything is written to it;
    `what` begins the message.
    """
    elements = TIMES * sum(map(math.prod, shapes)) + MORE_ELEMENTS
    tensors = TIMES * len(shapes) + MORE_TENSORS
    sizes: dict[tuple[int, str], int] = {}
    thread = threading.get_ident()
    held = 0

    def count(module: Any, name: str, tensor: Any) -> None:
        nonlocal held
        if thread != threading.get_ident() or not isinstance(tensor, torch.Tensor):
            return
        held -= sizes.get((id(module), name), 0)
        sizes[id(module), name] = tensor.numel()
        held += tensor.numel()
        if held > elements or len(sizes) > tensors:
            raise GateError(
                f"{what} describes more than {held:,} numbers in {counted(len(sizes), 'tensor')}, "
                f"and the weights hold {sum(map(math.prod, shapes)):,} in {len(shapes):,}; it is "
                "of another model: copy it again from where the directory was made."
            )

    with ExitStack() as hooks:
        for register in (
            register_module_parameter_registration_hook,
            register_module_buffer_registration_hook,
        ):
            hooks.callback(register(count).remove)
        yield


def stored_shapes(folder: Path) -> list[tuple[int, ...]]:
    """The shapes of the weights in a folder. GateError for a file that says more than it holds.

    ValueError, or SafetensorError, for one that cannot be read.
    """
    shapes: list[tuple[int, ...]] = []
    for file in weight_files(folder):
        try:
            shapes += shapes_in(file).values()
        except OddSizesError as error:
            raise GateError(f"{file}: {why_unread(error)}.") from None
        except BROKEN as error:
            raise ValueError(f"{file.name} {why_unread(error)}") from None
    return shapes


def refuse_odd_counts(folder: Path) -> None:
    """GateError where config.json counts layers or labels as no model has them.

    The libraries make a list of so many before there is a model. What else is wrong in the file,
    whoever reads it will say.
    """
    try:
        content = read_json(folder / "config.json")
    except (OSError, ValueError, RecursionError):
        return
    for name, number in _counts(content):
        if number > MOST_COUNTED:
            raise GateError(
                f"{folder}: config.json: {name} is {number:,}, and no model has more than "
                f"{MOST_COUNTED:,}; copy it again from where the directory was made."
            )


def _counts(content: Any) -> Iterator[tuple[str, int]]:
    """The numbers under names that count, at any depth."""
    waiting = [content]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            waiting += one.values()
            for name, value in one.items():
                if COUNTS.search(name) and (number := _number(value)) is not None:
                    yield name, number
        elif isinstance(one, list):
            waiting += one


def _number(value: Any) -> int | None:
    """A whole number, also one that was written as text."""
    try:
        return None if isinstance(value, bool) else int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None
