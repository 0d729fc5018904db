"""Weights of several classifiers in memory once, and none of them in a file that may change.

Adapters on one base hold the base's weights each. What is equal, to the bit, is kept once, so that
ten adapters need hardly more memory than one, whatever their method and their labels.
"""

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from textassay.artifacts.classifier import Classifier

# So many elements tell tensors of one shape apart before all of them are compared.
TOLD_APART_BY = 64


class SharedWeights:
    """A pool of tensors. Nobody may train a model that takes part: weights are one another's."""

    def __init__(self) -> None:
        self._pool: dict[tuple[Any, ...], list[torch.Tensor]] = {}

    def adopt(self, classifier: "Classifier") -> int:
        """Give a classifier of torch the pool's tensor for every weight that is equal to one.

        All other weights join the pool, copied out of the file that the library maps into memory:
        a file that is written again, or cut off, under a running process would change the answers
        or end it. Returns the bytes that were shared.
        """
        predictor: Any = classifier._predictor
        module: torch.nn.Module = predictor.model
        shared = 0
        for parameter in module.parameters():
            known = self._find(parameter.data)
            if known is None:
                self._join(parameter)
            elif known.data_ptr() != parameter.data_ptr():
                parameter.data = known
                shared += known.nbytes
        for buffer in module.buffers():
            buffer.data = buffer.data.clone()
        return shared

    def _find(self, weight: torch.Tensor) -> torch.Tensor | None:
        several = self._pool.get(_about(weight), [])
        return next((known for known in several if torch.equal(known, weight)), None)

    def _join(self, parameter: torch.nn.Parameter) -> None:
        if parameter.device.type == "cpu":
            parameter.data = parameter.data.clone()
        self._pool.setdefault(_about(parameter.data), []).append(parameter.data)


def _about(weight: torch.Tensor) -> tuple[Any, ...]:
    """What equal tensors have in common, and others hardly ever."""
    first = weight.flatten()[:TOLD_APART_BY].contiguous().cpu().view(torch.uint8)
    return weight.dtype, weight.device, tuple(weight.shape), bytes(first.tolist())
