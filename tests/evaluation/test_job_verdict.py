"""A job's verdict: over its seeds and over the test rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textassay.evaluation.bootstrap import LabelCells
from textassay.evaluation.gains import paired_difference
from textassay.evaluation.job_verdict import gain_of_seeds, judge_job

BASELINES = [
    {"name": "TF-IDF", "scores": {"macro_f1": {"value": 0.7}}},
    {"name": "majority", "scores": {"macro_f1": {"value": 0.3}}},
]
NAMES = np.array(["bad", "good", "so-so"])


def right(random: np.random.Generator, truth: np.ndarray, share: float) -> np.ndarray:
    return np.where(random.random(len(truth)) < share, truth, random.integers(3, size=len(truth)))


def write(folder: Path, truth: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        "text": pa.array([f"text {number}" for number in range(len(truth))]),
        "label": pa.array(NAMES[truth], pa.large_string()),  # as the reader has it
        "predicted": pa.array(NAMES[ours]),
        "predicted by TF-IDF": pa.array(NAMES[theirs]),
    }
    pq.write_table(pa.table(columns), folder / "predictions.parquet")
    return folder


@pytest.fixture
def seeds(tmp_path: Path) -> list[Path]:
    """Three seeds with 90% right, beside a baseline with 70%."""
    random = np.random.default_rng(0)
    truth = random.integers(3, size=200)
    baseline = right(random, truth, 0.6)
    return [write(tmp_path / str(seed), truth, right(random, truth, 0.85), baseline)
            for seed in range(3)]  # fmt: skip


def test_several_seeds_have_one_verdict(seeds: list[Path]) -> None:
    found = judge_job(seeds, BASELINES, 0.95, 300)
    assert found and found.ahead.direction == 1
    assert found.sentence.startswith("Better than TF-IDF (macro-F1 +0.")
    assert found.sentence.endswith(", over 3 seeds and 200 rows).")


def test_what_cannot_be_judged_has_none(seeds: list[Path], tmp_path: Path) -> None:
    assert judge_job(seeds[:1], BASELINES, 0.95, 300) is None
    assert judge_job(seeds, [], 0.95, 300) is None
    truth = np.arange(200) % 3
    other = write(tmp_path / "other", truth, truth, truth)
    assert judge_job([*seeds, other], BASELINES, 0.95, 300) is None
    earlier = [{"name": "another", "scores": {"macro_f1": {"value": 0.9}}}]
    assert judge_job(seeds, earlier, 0.95, 300) is None


def test_the_same_predictions_of_all_seeds_are_those_of_one() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(3, size=300)
    ours, theirs = right(random, truth, 0.8), right(random, truth, 0.7)
    one = paired_difference(truth, ours, theirs, 3)["macro_f1"]
    found = gain_of_seeds(LabelCells.of(truth, [ours, ours, theirs], 3), 0.95, 2000)
    assert found.value == pytest.approx(one.value) and found.p == pytest.approx(one.p, abs=0.02)
    assert (found.low, found.high) == pytest.approx((one.low, one.high), abs=0.01)


def test_seeds_that_scatter_make_the_interval_wide() -> None:
    """One of three fails: however many rows there are, better is not proven."""
    random = np.random.default_rng(2)
    truth = random.integers(3, size=5000)
    baseline = right(random, truth, 0.5)
    shares = (0.9, 0.88, 0.4)
    predicted = [*(right(random, truth, share) for share in shares), baseline]
    found = gain_of_seeds(LabelCells.of(truth, predicted, 3), 0.95, 200)
    assert found.value > 0.1 and found.low < 0 and found.direction == 0


def test_a_verdict_on_seeds_that_are_no_better_is_rarely_wrong() -> None:
    random, wrong = np.random.default_rng(3), 0
    for _ in range(60):
        truth = random.integers(3, size=120)
        common = right(random, truth, 0.7)
        predicted = [np.where(random.random(120) < 0.5, common, right(random, truth, 0.7))
                     for _ in range(4)]  # fmt: skip
        wrong += gain_of_seeds(LabelCells.of(truth, predicted, 3), 0.95, 100).direction != 0
    assert wrong <= 5
