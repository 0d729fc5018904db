"""How often intervals hold the truth, and verdicts are wrong: simulated, with fixed seeds.

The truth is the score over the labels that occur in the rows, on any number of rows from the same
source. Of the plain percentile intervals before, those of rare labels held it in
58 to 82% of cases.
"""

import numpy as np
import pytest

from textassay.evaluation.confidences import expected_calibration_error, log_loss
from textassay.evaluation.gains import paired_difference
from textassay.evaluation.metrics import label_scores, probability_scores
from textassay.evaluation.ranking import roc_auc
from textassay.models.probabilities import softmax

TIMES, RESAMPLES = 100, 100
R8 = [0.51, 0.30, 0.05, 0.042, 0.038, 0.035, 0.019, 0.006]
MANY = 1 / np.arange(3, 31) ** 1.6  # 28 labels, the rarest with 1 of 80 rows of the most frequent


def source(shares: list[float] | np.ndarray, recalls: list[float] | float) -> np.ndarray:
    """How probable each pair of true and predicted label is, [labels, labels]."""
    share = np.array(shares) / np.sum(shares)
    recall = np.broadcast_to(recalls, share.shape)
    wrong = np.tile(0.5 * share + 0.5 / len(share), (len(share), 1))
    np.fill_diagonal(wrong, 0)
    wrong *= ((1 - recall) / wrong.sum(1))[:, None]
    return np.asarray(share[:, None] * (wrong + np.diag(recall)))


SOURCES = {
    "two labels": source([1, 1], 0.85),
    "two labels, nearly all right": source([1, 1], 0.97),
    "one of twenty": source([0.95, 0.05], [0.98, 0.5]),
    "five labels": source([1] * 5, 0.45),
    "R8": source(R8, [0.99, 0.97, 0.93, 0.9, 0.88, 0.88, 0.8, 0.6]),
    "28 labels": source(MANY, np.linspace(0.8, 0.3, 28)),  # type: ignore[arg-type]
    "28 labels, nearly all right": source(MANY, 0.97),
}


def f1(pairs: np.ndarray) -> np.ndarray:
    return np.asarray(2 * np.diag(pairs) / (pairs.sum(0) + pairs.sum(1)))


def draw(
    random: np.random.Generator, pairs: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    return np.divmod(random.choice(pairs.size, size=rows, p=pairs.ravel()), len(pairs))


def answer(random: np.random.Generator, pairs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Labels that another classifier of the same quality gives these rows."""
    return answer_at(random.random(len(truth)), pairs, truth)


def answer_at(places: np.ndarray, pairs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Labels that a classifier gives these rows; alike for two at the same places, [rows]."""
    until = np.cumsum(pairs / pairs.sum(1, keepdims=True), axis=1)[truth]
    return np.minimum((places[:, None] > until).sum(1), len(pairs) - 1)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("rows", [50, 300])
def test_intervals_hold_the_truth_as_often_as_they_say(name: str, rows: int) -> None:
    random, pairs = np.random.default_rng(0), SOURCES[name]
    held = {"accuracy": 0, "macro_f1": 0}
    for _ in range(TIMES):
        truth, predicted = draw(random, pairs, rows)
        occurs = np.union1d(truth, predicted)
        right = {"accuracy": np.trace(pairs), "macro_f1": f1(pairs)[occurs].mean()}
        scores = label_scores(truth, predicted, len(pairs), 0.95, RESAMPLES)
        for metric in held:
            low, high = scores[metric].low or 0, scores[metric].high or 0
            held[metric] += low <= right[metric] <= high
    assert min(held.values()) >= 0.90 * TIMES, held


@pytest.mark.parametrize(
    ("name", "rows"),
    [("two labels", 8), ("two labels", 300), ("one of twenty", 50), ("R8", 8), ("R8", 300),
     ("28 labels", 50)],
)  # fmt: skip
def test_a_verdict_on_equally_good_classifiers_is_rarely_wrong(name: str, rows: int) -> None:
    """Half of the rows get the same label from both; a verdict may be wrong in 5% of cases."""
    random, pairs = np.random.default_rng(1), SOURCES[name]
    wrong = held = 0
    for _ in range(TIMES):
        truth, ours = draw(random, pairs, rows)
        own = random.random(rows) < 0.5
        theirs = np.where(own, answer(random, pairs, truth), ours)
        gain = paired_difference(truth, ours, theirs, len(pairs), 0.95, RESAMPLES)["macro_f1"]
        wrong += gain.direction != 0
        held += (gain.low or 0) <= 0 <= (gain.high or 0)
    assert held >= 0.90 * TIMES and wrong <= 0.08 * TIMES, (held, wrong)
    assert rows > 8 or wrong <= 1


# As good as "R8" by macro-F1, but better at frequent labels and worse at the two rare ones.
UNLIKE_R8 = source(R8, [0.999, 0.997, 0.993, 0.99, 0.988, 0.988, 0.5164, 0.3164])


def test_a_verdict_is_rarely_wrong_where_two_are_good_at_different_labels() -> None:
    """Then they cannot swap answers, and three rows of a label decide. Without a label's rows
    keeping their number the interval missed 0 in 7 to 10% of cases."""
    assert f1(UNLIKE_R8).mean() == pytest.approx(f1(SOURCES["R8"]).mean(), abs=1e-4)
    random, times, missed, wrong = np.random.default_rng(1), 200, 0, 0
    for _ in range(times):
        truth, _ = draw(random, SOURCES["R8"], 500)
        places = random.random(500)
        others = np.where(random.random(500) < 0.7, places, random.random(500))
        ours = answer_at(places, SOURCES["R8"], truth)
        theirs = answer_at(others, UNLIKE_R8, truth)
        gain = paired_difference(truth, ours, theirs, 8, 0.95, RESAMPLES)["macro_f1"]
        wrong += gain.direction != 0
        missed += not (gain.low or 0) <= 0 <= (gain.high or 0)
    assert wrong <= 0.05 * times and missed <= 0.065 * times, (wrong, missed)


def test_a_difference_that_is_there_is_found() -> None:
    """Recall 0.80 against 0.90 on 300 rows: what is right is not bought by saying nothing."""
    random = np.random.default_rng(2)
    better, worse = source([1, 1, 1], 0.9), source([1, 1, 1], 0.8)
    found = 0
    for _ in range(TIMES):
        truth, ours = draw(random, better, 300)
        theirs = answer(random, worse, truth)
        gain = paired_difference(truth, ours, theirs, 3, 0.95, RESAMPLES)["macro_f1"]
        found += gain.direction == 1
    assert found >= 0.85 * TIMES


# Shares of the labels, how far the true label's logit is ahead, and by what logits are multiplied:
# above the first, probabilities are surer than they ought to be.
GUESSES = {
    "two labels": ([1, 1], 1.5, 1.5),
    "two labels, too sure": ([1, 1], 1.5, 3.0),
    "two labels, nearly all right": ([1, 1], 4.0, 4.0),
    "nearly all right, and too sure": ([1, 1], 4.0, 8.0),
    "one of twenty": ([0.95, 0.05], 2.0, 2.0),
    "five labels": ([1] * 5, 1.5, 1.5),
    "five labels, too sure": ([1] * 5, 1.5, 3.0),
    "R8": (R8, 3.0, 3.0),
}


def guess(random: np.random.Generator, name: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """True labels, and the probabilities that a classifier gives all labels."""
    given, ahead, factor = GUESSES[name]
    shares = np.array(given) / np.sum(given)
    truth = random.choice(len(shares), size=rows, p=shares)
    logits = random.normal(size=(rows, len(shares))) + np.log(shares) / ahead / 2
    logits[np.arange(rows), truth] += ahead
    return truth, softmax(logits * factor)


@pytest.mark.parametrize("name", GUESSES)
@pytest.mark.parametrize("rows", [30, 100, 1000])
def test_intervals_of_probabilities_hold_the_truth_as_often_as_they_say(
    name: str, rows: int
) -> None:
    """Percentile intervals of the bootstrap held it in 0 to 96% of these cases."""
    everything, probable = guess(np.random.default_rng(9), name, 100_000)
    right = {"log_loss": log_loss(everything, probable),
             "ece": expected_calibration_error(everything, probable)}  # fmt: skip
    areas = [roc_auc((everything == label).astype(int), np.stack([1 - own, own], 1)) or 0
             for label, own in enumerate(probable.T)]  # fmt: skip
    held = {"log_loss": 0, "ece": 0, "roc_auc": 0}
    random, times = np.random.default_rng(4), 3 * TIMES if rows == 30 else TIMES
    for _ in range(times):
        truth, probabilities = guess(random, name, rows)
        occurs = [label for label in range(probable.shape[1]) if 0 < np.sum(truth == label) < rows]
        right["roc_auc"] = np.mean([areas[label] for label in occurs]) if occurs else np.nan
        for metric, found in probability_scores(truth, probabilities).items():
            undefined = found.value is None
            held[metric] += undefined or (found.low or 0) <= right[metric] <= (found.high or 0)
    assert min(held.values()) >= 0.90 * times, held
