"""Pictures show labels as they are."""

from pathlib import Path

import numpy as np
import pytest
from tests.comparisons_for_tests import comparison_of, random_case

from textassay.evaluation import plots
from textassay.evaluation.comparison_plot import draw_comparison

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
