"""What a comparison says, in tables, in Markdown and in its picture."""

import numpy as np
import pytest
from matplotlib import font_manager
from tests.comparisons_for_tests import LABELS, comparison_of, names_of, random_case

from textassay.evaluation import fonts
from textassay.evaluation.compare import Comparison
from textassay.evaluation.comparison_plot import draw_comparison
from textassay.evaluation.comparison_report import markdown, sheets
from textassay.evaluation.contenders import RANDOM_HEAD, WARNING
from textassay.evaluation.fonts import families


def test_the_verdict_says_what_the_interval_says() -> None:
    truth, ours, theirs = random_case(2, 200, 3)
    chance = np.random.default_rng(0).integers(3, size=200)
    assert comparison_of(truth, truth, chance, LABELS).verdict().startswith("A is better than B (")
    assert comparison_of(truth, chance, truth, LABELS).verdict().startswith("A is worse than B (")
    for other in (ours, theirs):
        same = comparison_of(truth, ours, other, LABELS)
        gain = same.found.gain["macro_f1"]
        assert gain.low <= 0 <= gain.high
        assert same.verdict().startswith("No detectable difference between A and B (macro-F1 ")
        assert "200 rows" in same.verdict()


def test_a_random_head_is_called_so_everywhere() -> None:
    truth, ours, theirs = random_case(2, 100, 3)
    found = comparison_of(truth, ours, theirs, LABELS, is_untuned=True)
    whole = f"{RANDOM_HEAD}: {WARNING}"
    assert whole == (
        "untuned base (random head, seed 0): its figures say nothing about the base model"
    )
    assert "its base with a random head" in found.verdict()
    assert whole in " ".join(sheets(found)[0].rows[1][0].split())
    assert found.to_json()["b"]["name"] == whole and found.to_json()["b"]["untuned"]
    assert whole in markdown(found)
    assert whole in drawn_text(found)


def test_markdown_shows_strange_labels_as_they_are() -> None:
    truth, ours, theirs = random_case(2, 100, 2)
    page = markdown(comparison_of(truth, ours, theirs, ("a|b", "*c*\n<d>")))
    assert r"| a\|b |" in page and r"| \*c\* \<d\> |" in page


def test_many_shifts_are_summed_up() -> None:
    truth, ours, theirs = random_case(2, 400, 6)
    found = comparison_of(truth, ours, theirs, names_of(6))
    assert len(found.found.shifts) > 10
    rows = sheets(found)[2].rows
    assert len(rows) == 12 and rows[-2][0].endswith(" more")
    assert sum(int(row[2]) for row in rows[:-1]) == int(rows[-1][2]) == (ours != theirs).sum()
    assert len(found.to_json()["shifts"]) == len(found.found.shifts)


def drawn_text(comparison: Comparison) -> str:
    """All that is written in the picture, after it was drawn."""
    from matplotlib.text import Text

    figure = draw_comparison(comparison)
    figure.canvas.draw()
    return "\n".join(" ".join(text.get_text().split()) for text in figure.findobj(Text))


def test_no_font_of_empty_boxes_stands_for_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    """matplotlib brings a font that claims every character and has none."""
    assert families("very positive") == ["DejaVu Sans"]
    assert not any("Last Resort" in name for name in families("高兴") or [])
    truth, ours, theirs = random_case(2, 100, 2)
    with monkeypatch.context() as without:
        families.cache_clear()
        latin = [entry for entry in font_manager.fontManager.ttflist if "DejaVu" in entry.name]
        without.setattr(font_manager.fontManager, "ttflist", latin)
        text = drawn_text(comparison_of(truth, ours, theirs, ("高兴", "悲伤")))
    families.cache_clear()
    assert "Labels by number" in text and f"0 ({(truth == 0).sum()})" in text


def test_a_font_that_has_the_characters_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    families.cache_clear()
    own = fonts.characters_of

    def characters(font: str) -> set[int]:
        return own(font) | (set(map(ord, "高兴悲伤")) if "Mono" in font else set())

    monkeypatch.setattr(fonts, "characters_of", characters)
    truth, ours, theirs = random_case(2, 100, 2)
    text = drawn_text(comparison_of(truth, ours, theirs, ("高兴", "悲伤")))
    families.cache_clear()
    assert "高兴 (" in text and "Labels by number" not in text


def test_of_very_many_labels_the_most_changed_are_drawn() -> None:
    truth, ours, theirs = random_case(2, 2000, 60)
    assert "40 of 60 labels" in drawn_text(comparison_of(truth, ours, theirs, names_of(60)))
