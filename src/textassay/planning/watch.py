"""The memory of a training step, from the real code on tensors that have shapes and no content.

PyTorch's fake tensors go through the model's own forward and backward, and every storage that is
made or freed on the way is written down. So whatever the architecture keeps for its backward is
counted as it is: for a transformer that is what Korthikanti et al. 2022 (arXiv:2205.05198, section
4) add up by hand, with attention, adapters, dropout masks and checkpoints as they are here.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from textassay.planning.heap import FREED, Event


@dataclass(frozen=True)
class Events:
    """(number of a storage, its bytes or FREED) in the order of a step; those of gradients.

    `needed` says of each parameter before which event a module first needs it.
    """

    order: list[Event]
    gradients: frozenset[int] = frozenset()
    needed: tuple[int, ...] = ()

    def later(self, count: int) -> "Events":
        """The same with every parameter needed so many events later."""
        needed = tuple(min(place + count, len(self.order)) for place in self.needed)
        return replace(self, needed=needed)

    def peak(self) -> int:
        """The most bytes that are there at once."""
        return self._highest(frozenset())

    def activations(self) -> int:
        """The same without gradients: what is kept for the backward, and temporary tensors."""
        return self._highest(self.gradients)

    def _highest(self, left_out: frozenset[int]) -> int:
        sizes: dict[int, int] = {}
        now = highest = 0
        for number, size in self.order:
            if number in left_out:
                continue
            if size == FREED:
                now -= sizes.pop(number)
            else:
                sizes[number] = size
                now += size
            highest = max(highest, now)
        return highest


@dataclass(frozen=True)
class Watched:
    """The same step with two and with three rows; every size is linear in their number."""

    two: Events
    three: Events

    def rows(self, count: int) -> Events:
        """The events of a step of `count` rows."""
        order = [
            (number, size if size == FREED else max(0, size + (count - 2) * (more - size)))
            for (number, size), (_, more) in zip(self.two.order, self.three.order, strict=True)
        ]
        return Events(order, self.two.gradients, self.two.needed)


class _Watch(TorchDispatchMode):
    """Writes down every storage that is made, and when it goes; `known` are there already."""

    def __init__(self, known: list[torch.Tensor]) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.numbers = {tensor.untyped_storage()._cdata: 0 for tensor in known}
        self._made = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return made

    def _note(self, storage: Any) -> None:
        key = storage._cdata
        if key in self.numbers:
            return
        self._made += 1
        self.numbers[key] = self._made
        self.events.append((self._made, storage.nbytes()))
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.events.append((self.numbers.pop(key), FREED))


def watch(step: Callable[[int], None], model: Any) -> Watched:
    """What `step(rows)` makes and frees; it is called with two rows and with three."""
    found = []
    for rows in (2, 3):
        model.zero_grad(set_to_none=True)
        seen = _Watch([*model.parameters(), *model.buffers()])
        with seen, _first_needs(model, seen.events) as needed:
            step(rows)
        held = [p.grad for p in model.parameters() if p.grad is not None]
        gradients = frozenset(seen.numbers[grad.untyped_storage()._cdata] for grad in held)
        first_needs = tuple(needed.get(parameter, 0) for parameter in model.parameters())
        found.append(Events(list(seen.events), gradients, first_needs))
    model.zero_grad(set_to_none=True)
    return Watched(*found)


@contextmanager
def _first_needs(model: Any, events: list[Event]) -> Iterator[dict[torch.Tensor, int]]:
    """How many events there were when a module that holds a parameter first began."""
    needed: dict[torch.Tensor, int] = {}

    def note(module: torch.nn.Module, _: Any) -> None:
        for parameter in module.parameters(recurse=False):
            needed.setdefault(parameter, len(events))

    hooks = [module.register_forward_pre_hook(note) for module in model.modules()]
    try:
        yield needed
    finally:
        for hook in hooks:
            hook.remove()


def training_step(
    model: Any, length: int, passes: int, casting: Callable[[], AbstractContextManager[Any]]
) -> Watched:
    """Forward and backward over batches of texts of `length` tokens, `passes` a step.

    The model's tensors are fake ones, and so is the mode that this is called in.
    """

    def step(rows: int) -> None:
        for _ in range(passes):
            batch = _batch(rows, length)
            labels = torch.zeros(rows, dtype=torch.long)
            with casting():
                output = model(**batch)
            logits = output.logits.float()
            loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum") / rows
            del logits
            loss.backward()
            del output, loss

    model.train()
    return watch(step, model)


def evaluation_step(
    model: Any, length: int, casting: Callable[[], AbstractContextManager[Any]]
) -> Watched:
    """A forward alone, without gradients."""

    def step(rows: int) -> None:
        batch = _batch(rows, length)
        with torch.no_grad(), casting():
            model(**batch)

    model.eval()
    return watch(step, model)


def _batch(rows: int, length: int) -> dict[str, torch.Tensor]:
    shape = (rows, length)
    ids = torch.zeros(shape, dtype=torch.long)
    return {"input_ids": ids, "attention_mask": torch.ones(shape, dtype=torch.long)}
