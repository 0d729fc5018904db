"""Names and labels of strangers in cards, reports and pages say what they are, and do nothing."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from textassay.evaluation.markdown import plain_markdown, yaml_text
from textassay.evaluation.metrics import Score
from textassay.exporting.card import export_card
from textassay.training.card import model_card

RENDER = MarkdownIt("commonmark").enable("table").enable("strikethrough").render
HOSTILE = [
    "</td></tr><script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "![](http://evil.example/seen.png)",
    "x\n---\nlicense: mit\n---\n# Trust me",
    "a | b\n| c |",
    "**bold** _soft_ `code` ~~gone~~ &lt;b&gt; <img src=x onerror=alert(1)>",
    "\x1b[31mred\u202e\x9b",
    "name: [1, 2] # no comment\nother: {a: b}",
    "ends in a backslash\\",
    "\"quoted\" and 'single' %}{{ 7 * 7 }}",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_a_name_as_it_is(text: str) -> None:
    html = RENDER(f"| a | b |\n| --- | --- |\n| {plain_markdown(text)} | second |\n")
    tags = set(re.findall(r"<[^>]*>", html))
    assert tags <= {f"<{end}{tag}>" for tag in ("table", "thead", "tbody", "tr", "th", "td")
                    for end in ("", "/")}, html  # fmt: skip
    assert html.count("<td>") == 2 and "<td>second</td>" in html


@given(st.text())
def test_a_value_of_yaml_is_the_text_on_one_line(text: str) -> None:
    written = yaml_text(text)
    assert "\n" not in written
    assert yaml.safe_load(f"a: {written}\nb: 1") == {"a": text, "b": 1}


def assert_harmless(card: str, values: dict[str, str]) -> None:
    """The card's head is ours, and no tag, link or picture of a stranger's is in it."""
    _, head, body = card.split("---\n", 2)
    found = yaml.safe_load(head)
    assert {name: found[name] for name in values} == values
    assert set(found) <= {"library_name", "base_model", "pipeline_tag"}
    html = RENDER(body)
    assert not re.search(r"<(script|img|a|b|s|h1>Trust)\b", html), html
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", card)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_model_card_is_ours_whatever_things_are_called(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    job = SimpleNamespace(
        name=text, method=SimpleNamespace(name=text),
        distillation=SimpleNamespace(teacher=text), data=SimpleNamespace(text_column=f"{text},a",
        prompt=None), model=SimpleNamespace(max_seq_length=8, head="linear"),
    )  # fmt: skip
    score = Score(0.5, 0.4, 0.6)
    validation = SimpleNamespace(
        scores=SimpleNamespace(accuracy=score, macro_f1=score), truth=[1, 2], calibrated=None,
        settings=SimpleNamespace(confidence=0.95),
    )  # fmt: skip
    dataset = SimpleNamespace(
        name=text, labels=SimpleNamespace(names=(text, "good")), splits=SimpleNamespace(train=[1])
    )
    base = SimpleNamespace(name=text, path=tmp_path)
    calibration = SimpleNamespace(sentence=lambda: text)
    card = model_card(
        SimpleNamespace(job=job, seed=0), dataset, base, validation, calibration, alarm=text
    )
    assert_harmless(card, {"base_model": text})
    assert "{{" not in card or "7 * 7" in text


@pytest.mark.parametrize("text", HOSTILE)
def test_the_card_of_an_export_is_ours_too(text: str, tmp_path: Path) -> None:
    loaded = SimpleNamespace(
        labels=SimpleNamespace(names=(text, "good")), temperature=1, prompt=None, max_length=8,
        tokenizer=SimpleNamespace(pad_token_id=0),
    )  # fmt: skip
    assert_harmless(export_card(tmp_path, loaded, text, text), {"library_name": "onnx"})


def test_no_page_of_ours_takes_texts_for_html() -> None:
    """Jinja escapes whatever it is given, unless a template says otherwise."""
    folder = Path(__file__).parents[2] / "src" / "textassay" / "evaluation" / "templates"
    for template in folder.glob("*.html"):
        assert not re.search(r"\|\s*safe|autoescape|Markup", template.read_text()), template
    for page in (folder.parents[1] / "serving" / "pages").glob("*.html"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(",
                             page.read_text()), page  # fmt: skip
