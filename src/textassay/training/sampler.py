"""The order of the training rows: a function of seed and epoch alone, so that resuming is exact.

The library's length-grouped sampler draws from the process's random state, which a resumed run has
used differently: from the second epoch on its batches are others.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

# Rows are sorted by length within pools of this many batches: enough for batches of nearly one
# length, few enough that their company changes from epoch to epoch.
BATCHES_IN_POOL = 100


class EpochSampler(Sampler[int]):
    """Row numbers of one epoch after another; `set_epoch` says which."""

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int, strategy: str = "random"
    ) -> None:
        """`strategy` is random, sequential or group_by_length, `batch_size` that of the loader."""
        self._lengths = np.asarray(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._strategy = strategy
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        count = len(self._lengths)
        if self._strategy == "sequential":
            return iter(range(count))
        random = np.random.default_rng((self._seed, self._epoch))
        order = random.permutation(count)
        if self._strategy == "group_by_length":
            order = self._grouped(order, random)
        return iter(order.tolist())

    def _grouped(self, order: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """`order` with rows of similar length side by side, its batches shuffled."""
        pool = BATCHES_IN_POOL * self._batch_size
        parts = [order[start : start + pool] for start in range(0, len(order), pool)]
        ordered = np.concatenate(
            [part[np.argsort(self._lengths[part], kind="stable")] for part in parts]
        )
        whole = len(ordered) - len(ordered) % self._batch_size
        batches = ordered[:whole].reshape(-1, self._batch_size)
        # An incomplete batch stays last: anywhere else it would shift all batches behind it.
        return np.concatenate([random.permutation(batches).ravel(), ordered[whole:]])
