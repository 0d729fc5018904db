"""The page in a real browser: what a person sees after typing a text."""

import html
import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.serving.conftest import serving
from tests.serving.tiny_onnx import LABELS, tiny_onnx

SAFE_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


@pytest.fixture(scope="module")
def browser() -> str:
    """A Chromium; the gate (TEXTASSAY_CI=1) does not go without one."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    reason = "there is no Chromium to open the page with (apt-get install chromium)"
    if os.environ.get("TEXTASSAY_CI") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def page_after(browser: str, url: str, profile: Path) -> str:
    """The page's elements when everything that it loads has come."""
    command = [browser, *SAFE_FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=10000",
               "--dump-dom", url]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def bars(page: str) -> list[tuple[str, str, str]]:
    """(label, shown percentage, width of the bar) from top to bottom."""
    found = re.findall(
        r'<li class="[^"]*"><span class="name">(.*?)</span><span class="value">(.*?)</span>'
        r'<div class="track"[^>]*><div class="fill" style="width: (.*?);">', page,
    )  # fmt: skip
    return [(html.unescape(label), value, width) for label, value, width in found]


@pytest.mark.slow
def test_a_person_sees_every_label_with_its_bar(browser, artifact, tmp_path) -> None:
    mail = tiny_onnx(tmp_path / "mail", 1, ("<b>ham</b>", "spam"))
    with serving(tmp_path, artifact, f"mail={mail}") as server:
        text = "a good film <script>document.title='x'</script>"
        rows = server.ask("/predict", {"inputs": text})[1]
        page = page_after(browser, f"{server.url}/?text={quote(text)}", tmp_path / "profile")
        shown = bars(page)
        assert [label for label, _, _ in shown] == [row["label"] for row in rows]
        assert {label for label, _, _ in shown} == set(LABELS)
        for (_, value, width), row in zip(shown, rows, strict=True):
            assert value == f"{100 * row['score']:.1f} %"
            assert abs(float(width.rstrip("%")) - 100 * row["score"]) < 0.06
        assert f'<h2 id="verdict">{rows[0]["label"]}</h2>' in page
        assert "<title>textassay: try a text</title>" in page
        assert re.findall(r"<option[^>]*>(.*?)</option>", page) == [artifact.name, "mail"]
        # A label is text, too, whoever named it.
        page = page_after(browser, f"{server.url}/?text=a&model=mail", tmp_path / "profile")
        assert {label for label, _, _ in bars(page)} == {"<b>ham</b>", "spam"}
        assert "<b>ham" not in page


@pytest.mark.slow
def test_a_person_is_told_why_there_is_no_answer(browser, artifact, tmp_path) -> None:
    (tmp_path / "token").write_text("s3cret")
    told = ("--token_file", tmp_path / "token")
    with serving(tmp_path, *told, artifact) as server:
        page = page_after(browser, f"{server.url}/?text=a", tmp_path / "profile")
        assert "a bearer token is needed" in page
        assert re.search(r'<div id="token-row">', page), "the field for the token is hidden"
        assert bars(page) == []
        docs = page_after(browser, f"{server.url}/docs", tmp_path / "profile")
        assert "/models/{name}/predict" in docs and "curl http" in docs
