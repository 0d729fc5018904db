"""Whether a model learned: what agrees by chance, and how often chance passes."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import fisher_exact

from textassay.errors import GateError
from textassay.evaluation.learned import (
    NO,
    TOO_FEW,
    YES,
    chance_agreement,
    judge_learning,
    refuse_unlearned,
    stored_learning,
)
from textassay.files import write_json

NAMES = ("bad", "good", "so-so", "great", "awful")


def judge(truth: np.ndarray, predicted: np.ndarray, looks: int = 1, labels: int = 5):
    validated = SimpleNamespace(
        truth=truth, predicted=predicted, labels=SimpleNamespace(names=NAMES[:labels])
    )
    train = np.arange(labels).repeat(10)
    return judge_learning(validated, train, looks, "To try: more.")  # type: ignore[arg-type]


def test_two_labels_are_fishers_exact_test() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        truth, predicted = random.integers(2, size=(2, 30))
        table = [[np.sum((truth == i) & (predicted == j)) for j in (0, 1)] for i in (0, 1)]
        wanted = fisher_exact(table, alternative="greater").pvalue
        assert chance_agreement(truth, predicted, 2) == pytest.approx(wanted)


def test_dealt_and_normal_probabilities_agree() -> None:
    """Just below and above the number of rows from which the normal distribution is taken."""
    random = np.random.default_rng(1)
    truth = random.choice(4, size=1002, p=[0.5, 0.3, 0.15, 0.05])
    lucky = random.random(1002) < 0.03
    predicted = np.where(lucky, truth, random.permutation(truth))
    dealt = chance_agreement(truth[:1000], predicted[:1000], 4)
    assert chance_agreement(truth, predicted, 4) == pytest.approx(dealt, abs=0.01)
    assert 0.005 < dealt < 0.5


@pytest.mark.parametrize(("labels", "rows"), [(2, 12), (2, 130), (5, 40)])
def test_guessing_at_random_rarely_passes(labels: int, rows: int) -> None:
    """The best of three guesses, as the best checkpoint is picked by macro-F1 or accuracy."""
    random = np.random.default_rng(0)
    passed = 0
    for _ in range(100):
        truth = random.integers(labels, size=rows)
        guesses = random.integers(labels, size=(3, rows))
        best = max(guesses, key=lambda guess: np.mean(guess == truth))
        passed += judge(truth, best, looks=3, labels=labels).learned == YES
    assert passed <= 10


@pytest.mark.parametrize("rows", [130, 5000])
def test_one_label_for_all_is_nothing_learned(rows: int) -> None:
    truth = np.arange(rows) % 5
    found = judge(truth, np.zeros_like(truth))
    assert found.learned == NO and found.p == 1
    assert found.sentence.startswith("This model did not learn: its validation scores are not")
    assert "accuracy 0.200, macro-F1 0.067 on" in found.sentence
    assert found.sentence.endswith("To try: more.")


def test_a_rare_class_that_is_found_is_something_learned() -> None:
    """Accuracy is no better than the majority's, and the model is worth something."""
    truth = np.repeat([0, 1], [190, 10])
    predicted = np.repeat([0, 1, 0, 1], [184, 6, 4, 6])
    assert np.mean(predicted == truth) == 0.95
    assert judge(truth, predicted, labels=2).learned == YES


def test_more_looks_need_more() -> None:
    truth = np.repeat([0, 1], 10)
    predicted = np.repeat([0, 1, 0, 1], [8, 2, 3, 7])
    assert judge(truth, predicted, looks=1, labels=2).learned == YES
    assert judge(truth, predicted, looks=10, labels=2).learned == NO


def test_too_few_rows_to_tell_is_said_and_not_refused() -> None:
    truth = np.array([0, 0, 1, 1])
    found = judge(truth, truth, looks=3, labels=2)
    assert found.learned == TOO_FEW and "4 validation rows are too few" in found.sentence
    assert judge(truth, 1 - truth, looks=3, labels=2).learned == NO


def test_what_a_run_wrote_down_is_refused_unless_allowed(tmp_path) -> None:
    refuse_unlearned(tmp_path, allowed=False)  # an earlier version wrote nothing
    truth = np.arange(130) % 5
    found = judge(truth, np.zeros_like(truth))
    write_json(tmp_path / "eval_results.json", {"learning": found.to_json()})
    assert stored_learning(tmp_path) == found
    refuse_unlearned(tmp_path, allowed=True)
    with pytest.raises(GateError, match=r"did not learn.*--allow_unlearned"):
        refuse_unlearned(tmp_path, allowed=False)
