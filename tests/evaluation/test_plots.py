"""Pictures show labels as they are."""

from pathlib import Path

import numpy as np
import pytest
from tests.comparisons_for_tests import comparison_of, random_case

from textassay.evaluation import plots
from textassay.evaluation.comparison_plot import draw_comparison
from textassay.evaluation.evaluate import Baseline
from textassay.evaluation.gains import judged
from textassay.evaluation.metrics import Score
from textassay.evaluation.report import standing

# Between two dollars matplotlib would look for a formula, and fail or show something else.
MONEY = ("a$_$b", "$0-$50", "plain")


def test_a_dollar_in_a_label_is_a_dollar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: drawn.append(figure))
    plots.plot_confusion(tmp_path / "x.png", np.eye(3), MONEY)
    drawn.append(draw_comparison(comparison_of(*random_case(0, 60, 3), MONEY)))
    for figure in drawn:
        figure.savefig(tmp_path / "x.png", format="png")
        texts = [text for axes in figure.axes for text in axes.get_yticklabels()]
        shown = {text.get_text().partition(" (")[0] for text in texts}
        assert set(MONEY) <= shown
        assert not any(text.get_parse_math() for text in texts if "$" in text.get_text())


@pytest.mark.parametrize("metric", ["macro_f1", "mcc", "log_loss", "loss"])
def test_a_standstill_looks_like_one(
    metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: drawn.append(figure))
    value = 0.344 if metric in ("macro_f1", "mcc") else 1.609
    history = [
        {"step": step, "loss": 1.609 - step / 1e5, f"eval_{metric}": value + step / 1e5,
         "eval_loss": 1.61}
        for step in range(0, 100, 10)
    ]  # fmt: skip
    plots.plot_learning_curves(tmp_path / "x.png", history, metric)
    for axes in drawn[0].axes:
        low, high = axes.get_ylim()
        for line in axes.get_lines():
            assert np.ptp(line.get_ydata()) < 0.01 * (high - low)


def test_the_colour_of_a_verdict_is_its_own() -> None:
    def beside(low: float, high: float) -> Baseline:
        gain = {"macro_f1": judged((low + high) / 2, low, high, 0.01, 0.95)}
        return Baseline("TF-IDF", {"macro_f1": Score(0.5, 0.4, 0.6)}, gain, np.zeros(3))

    assert standing([beside(0.1, 0.2)]) == "better"
    assert standing([beside(-0.1, 0.2)]) == "equal"
    assert standing([beside(-0.3, -0.2)]) == "worse"
    assert standing([]) == "unknown"
