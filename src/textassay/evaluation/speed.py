"""How fast classifiers are, measured alternately in one go: ratios hold where figures do not."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

ROUNDS = 3


def texts_per_second(
    classifiers: Mapping[str, Callable[[Sequence[str]], object]],
    texts: Sequence[str],
    rounds: int = ROUNDS,
) -> dict[str, float]:
    """From strings to probabilities, the median of alternating rounds after one to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in classifiers}
    for turn in range(rounds + 1):
        for name, answer in classifiers.items():
            start = time.perf_counter()
            answer(texts)
            if turn:
                taken[name].append(time.perf_counter() - start)
    return {name: len(texts) / statistics.median(times) for name, times in taken.items()}
