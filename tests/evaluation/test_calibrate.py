"""Temperature scaling: what it finds, what it leaves alone, and when it does not dare."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.comparisons_for_tests import FEW

from textassay.data.labels import LabelMap
from textassay.evaluation.calibrate import (
    COLDEST,
    FEWEST_ROWS,
    HOTTEST,
    Calibration,
    calibrate,
    fit_temperature,
)
from textassay.evaluation.confidences import (
    ECE_BINS,
    expected_calibration_error,
    log_loss,
    reliability,
)
from textassay.evaluation.evaluate import Calibrated, Evaluation
from textassay.evaluation.metrics import score
from textassay.models.probabilities import softmax

cases = given(seed=st.integers(0, 2**32 - 1), rows=st.integers(FEWEST_ROWS, 400),
              labels=st.integers(2, 6))  # fmt: skip


def honest(seed: int, rows: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from the very probabilities that they say."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, size=(rows, labels))
    drawn = random.random((rows, 1)) > softmax(logits).cumsum(1)[:, :-1]
    return drawn.sum(1), logits


def evaluation(truth: np.ndarray, logits: np.ndarray, calibrated: bool = True) -> Evaluation:
    names = tuple(f"label {index}" for index in range(logits.shape[1]))
    table = pa.table({"label": [names[index] for index in truth]})
    told = FEW.model_copy(update={"calibrate": calibrated})
    scores = score(truth, logits, resamples=100)
    return Evaluation("validation", LabelMap(names), table, truth, logits, 0, scores, told)


@settings(max_examples=60, deadline=None)
@given(factor=st.floats(0.2, 5), seed=st.integers(0, 2**32 - 1))
def test_logits_that_are_so_many_times_too_large_get_so_many_times_the_temperature(
    factor: float, seed: int
) -> None:
    truth, logits = honest(seed, 200, 3)
    plain, scaled = fit_temperature(truth, logits), fit_temperature(truth, logits * factor)
    assert plain.temperature and scaled.temperature and not scaled.note
    assert scaled.temperature == pytest.approx(plain.temperature * factor, abs=6e-4)


def test_what_is_calibrated_stays_as_it_is() -> None:
    truth, logits = honest(0, 20_000, 4)
    found = fit_temperature(truth, logits)
    assert found.temperature == pytest.approx(1, abs=0.03) and found.rows == 20_000
    before = expected_calibration_error(truth, softmax(logits))
    after = expected_calibration_error(truth, softmax(logits, found.temperature))
    assert before < 0.02 and after == pytest.approx(before, abs=0.01)
    too_sure = expected_calibration_error(truth, softmax(logits * 3))
    again = fit_temperature(truth, logits * 3).temperature
    assert too_sure > 0.1 > expected_calibration_error(truth, softmax(logits * 3, again))


@settings(max_examples=60, deadline=None)
@cases
def test_no_label_changes_and_no_other_temperature_has_a_lower_loss(
    seed: int, rows: int, labels: int
) -> None:
    random = np.random.default_rng(seed)
    truth, logits = random.integers(labels, size=rows), random.normal(0, 3, size=(rows, labels))
    found = fit_temperature(truth, logits)
    if found.temperature is None:
        return
    scaled = softmax(logits, found.temperature)
    assert (scaled.argmax(1) == logits.argmax(1)).all()
    tried = [1.0, found.temperature * 0.9, found.temperature * 1.1]
    losses = [log_loss(truth, softmax(logits, other)) for other in tried if other <= HOTTEST]
    assert log_loss(truth, scaled) <= min(losses) + 1e-9


@pytest.mark.parametrize("margin", [0.5, 1.0, 8.0])
def test_rows_that_are_all_right_make_nobody_surer_than_they_allow(margin: float) -> None:
    truth = np.arange(60) % 3
    found = fit_temperature(truth, np.eye(3)[truth] * margin)
    assert found.temperature and COLDEST < found.temperature <= 1 and "all 60 rows" in found.note
    confidence = softmax(np.eye(3)[truth] * margin, found.temperature).max(1).mean()
    raw = softmax(np.eye(3)[truth] * margin).max(1).mean()
    assert confidence == pytest.approx(max(raw, 61 / 62), abs=1e-4)


def test_the_temperature_has_two_ends() -> None:
    truth = np.arange(90) % 3
    wrong = fit_temperature(truth, np.eye(3)[(truth + 1) % 3] * 5)
    assert wrong.temperature == HOTTEST and "the highest that is tried" in wrong.note
    flat = np.eye(3)[truth] * 1e-4
    flat[0] = flat[1]
    cold = fit_temperature(truth, flat)
    assert cold.temperature == COLDEST and "the lowest that is tried" in cold.note


@pytest.mark.parametrize(
    ("truth", "logits", "says"),
    [
        (np.arange(FEWEST_ROWS - 1) % 2, np.eye(2)[np.arange(FEWEST_ROWS - 1) % 2], "49 rows"),
        (np.zeros(60, int), np.random.default_rng(0).normal(size=(60, 2)), "the same label"),
        (np.arange(60) % 2, np.full((60, 2), np.nan), "no finite numbers"),
        (np.arange(60) % 2, np.ones((60, 2)), "the same logit"),
    ],
)
def test_rows_that_say_nothing_calibrate_nothing(
    truth: np.ndarray, logits: np.ndarray, says: str
) -> None:
    found = fit_temperature(truth, logits)
    assert found.temperature is None and says in found.note
    assert found.sentence().startswith("no, ") and says in found.sentence()
    assert Calibration.from_json(found.to_json()) == found


def test_an_evaluation_knows_its_figures_before_and_after() -> None:
    truth, logits = honest(1, 300, 3)
    raw = evaluation(truth, logits * 3)
    found, fitted = calibrate(raw)
    made, t = found.calibrated, fitted.temperature
    assert made and t and raw.calibrated is None and made.temperature == t
    assert found.scores["accuracy"] == raw.scores["accuracy"]
    assert np.array_equal(found.logits, raw.logits)
    assert np.array_equal(found.probabilities, softmax(logits * 3, t))
    for name, function in (("log_loss", log_loss), ("ece", expected_calibration_error)):
        assert made.before[name] == raw.scores[name]
        assert made.after[name] == found.scores[name]
        assert found.scores[name].value == function(truth, softmax(logits * 3, t))
        change = made.change[name]
        assert change.value == pytest.approx(found.scores[name].value - raw.scores[name].value)
        assert change.low <= change.value <= change.high
    stored = found.to_json("eval")
    assert Calibrated.from_json(stored["calibration"]) == made
    assert stored["eval_ece"] == stored["calibration"]["after"]["ece"]["value"]


def test_calibration_can_be_switched_off() -> None:
    raw = evaluation(*honest(1, 300, 3), calibrated=False)
    found, fitted = calibrate(raw)
    assert found is raw and fitted.temperature is None
    assert fitted.sentence() == "no, evaluation.calibrate is false"


@settings(max_examples=40, deadline=None)
@cases
def test_the_diagram_shows_the_bins_of_the_error(seed: int, rows: int, labels: int) -> None:
    truth, logits = honest(seed, rows, labels)
    probabilities = softmax(logits * 2)
    found = reliability(truth, probabilities)
    assert found.rows.sum() == rows and found.rows.min() > 0 and len(found.rows) <= ECE_BINS
    gap = (np.abs(found.accuracy - found.confidence) * found.rows).sum() / rows
    assert gap == pytest.approx(expected_calibration_error(truth, probabilities))
