"""The order of rows: whole, a function of seed and epoch, and grouped by length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textassay.training.sampler import EpochSampler

STRATEGIES = ("random", "sequential", "group_by_length")


@given(
    st.lists(st.integers(1, 512), min_size=1, max_size=400),
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
    st.integers(0, 50),
    st.sampled_from(STRATEGIES),
)
def test_an_epoch_visits_every_row_once(lengths, batch, seed, epoch, strategy) -> None:
    sampler = EpochSampler(lengths, batch, seed, strategy)
    sampler.set_epoch(epoch)
    assert sorted(sampler) == list(range(len(lengths)))
    assert len(sampler) == len(lengths)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_order_depends_on_seed_and_epoch_alone(strategy: str) -> None:
    lengths = np.random.default_rng(0).integers(1, 100, size=500).tolist()

    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(lengths, 8, seed, strategy)
        sampler.set_epoch(epoch)
        np.random.default_rng().random(3)
        return list(sampler)

    assert order(1, 4) == order(1, 4)
    if strategy != "sequential":
        assert order(1, 4) != order(1, 5)
        assert order(1, 4) != order(2, 4)


def test_grouping_leaves_little_to_pad() -> None:
    lengths = np.random.default_rng(0).geometric(0.05, size=3000)
    padded = {}
    for strategy in ("random", "group_by_length"):
        order = np.array(list(EpochSampler(lengths.tolist(), 16, 0, strategy)))
        batches = [lengths[order[start : start + 16]] for start in range(0, 3000, 16)]
        padded[strategy] = sum(len(batch) * batch.max() for batch in batches) / lengths.sum()
    assert padded["group_by_length"] < 1.1
    assert padded["random"] > 2


def test_only_the_last_batch_is_incomplete() -> None:
    lengths = list(range(1, 106))
    order = list(EpochSampler(lengths, 10, 0, "group_by_length"))
    for start in range(0, 100, 10):
        batch = [lengths[row] for row in order[start : start + 10]]
        assert max(batch) - min(batch) == 9
