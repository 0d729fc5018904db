"""The documentation says what the code says, and its links lead somewhere."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from textassay.config.dotenv import read_env_file
from textassay.config.flag_table import FLAGS
from textassay.config.flags import ALIASES, PRECISION_FLAGS, run_options
from textassay.config.load import resolve_job
from textassay.config.rates import DEFAULT_RATES, METHODS_BY_RATE
from textassay.config.schema import SECTIONS, Job
from textassay.config.trainer_fields import ELSEWHERE, FIXED
from textassay.console import INTERRUPTED
from textassay.errors import TextassayError
from textassay.evaluation.metrics import NAMES

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "src" / "textassay"
CONFIGURATION = ROOT / "docs" / "configuration.md"
OUTPUTS = ROOT / "docs" / "outputs.md"
YOUR_DATA = ROOT / "docs" / "your-data.md"
# Folders of results and tools, whose pages are not ours.
NOT_OURS = {"runs", "out", "node_modules"}

FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
HTML_LINK = re.compile(r"(?:href|src|srcset)=\"([^\"]+)\"")
ELSEWHERE_ON_THE_WEB = re.compile(r"^([a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)
FILE = re.compile(r"^[\w.\-/]+\.(yaml|md|py|sh|toml|txt|csv|sbatch|Dockerfile)$")


def pages() -> list[Path]:
    """Every Markdown page of the repository."""
    found = [path for path in ROOT.rglob("*.md") if _is_ours(path.relative_to(ROOT))]
    assert CONFIGURATION in found and ROOT / "README.md" in found
    return sorted(found)


def _is_ours(path: Path) -> bool:
    return not any(part.startswith(".") or part in NOT_OURS for part in path.parts)


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def rows(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """(code spans of the first cell, all cells) for every row of every table."""
    for line in text.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            yield CODE.findall(cells[0]), cells


def heading(title: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower())
    return plain.strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """Everything that `page#…` may name."""
    text = prose(page)
    named = set(re.findall(r"(?:id|name)=\"([^\"]+)\"", text))
    return named | {heading(title) for title in re.findall(r"^#+\s+(.*?)\s*#*$", text, re.M)}


def links(page: Path) -> list[str]:
    """The relative links of a page, pictures included."""
    text = prose(page)
    without_code = CODE.sub("", text)
    found = LINK.findall(without_code) + REFERENCE.findall(without_code) + HTML_LINK.findall(text)
    return [link for link in found if not ELSEWHERE_ON_THE_WEB.match(link)]


def dead(page: Path, link: str) -> bool:
    """Whether a relative link leads nowhere, or out of the repository."""
    path, _, anchor = unquote(link).partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return True
    return bool(anchor) and target.suffix == ".md" and anchor not in anchors(target)


def file_named(span: str) -> str | None:
    """The path if a code span is one below a folder that we have, such as `jobs/x.yaml`."""
    first = span.partition("/")[0]
    is_below = "/" in span and ((ROOT / first).is_dir() or (SOURCES / first).is_dir())
    ours = is_below and first not in NOT_OURS
    return span if ours and FILE.match(span) else None


def section_of_page(name: str) -> str:
    """The part of configuration.md under the heading of a section of the schema."""
    text = CONFIGURATION.read_text(encoding="utf-8")
    title = "The top of a job" if name == "" else f"`{name}`"
    assert f"### {title}\n" in text
    part: str = re.split(r"^##+ ", text.split(f"### {title}\n")[1], flags=re.MULTILINE)[0]
    return part


@pytest.mark.parametrize("section", ["", *SECTIONS])
def test_every_setting_stands_on_the_page_with_its_default(section: str) -> None:
    model = SECTIONS[section] if section else Job
    known = {name: field for name, field in model.model_fields.items() if name not in SECTIONS}
    assert known
    documented = {spans[0]: cells for spans, cells in rows(section_of_page(section))
                  if spans and len(cells) == 3}  # fmt: skip
    assert set(documented) == set(known)
    for name, field in known.items():
        shown = yaml.safe_load(CODE.findall(documented[name][1])[0])
        assert shown == field.default, f"{section}.{name}"
        for choice in getattr(field.annotation, "__args__", ()):
            if isinstance(choice, str):
                assert f"`{choice}`" in " ".join(documented[name]), f"{section}.{name}: {choice}"


def test_the_learning_rate_of_every_method_stands_on_the_page() -> None:
    documented = {float(spans[0]): tuple(CODE.findall(cells[1]))
                  for spans, cells in rows(section_of_page("learning_rate")) if spans}  # fmt: skip
    assert documented == METHODS_BY_RATE


def test_results_of_defaults_are_those_of_the_learning_rates_of_now() -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    part = text.split("\n## Defaults\n")[1].split("\n## ")[0]
    measured = [cells for _, cells in rows(part) if len(cells) == 7 and cells[3] in ("yes", "no")]
    assert len(measured) > 10
    for cells in measured:
        method = cells[1].partition(",")[0]
        assert float(cells[2]) == DEFAULT_RATES[method], cells


def test_every_flag_that_help_shows_stands_on_the_page() -> None:
    command = run_options("lora")(lambda run: None)
    shown = [option.name for option in command.params if not getattr(option, "hidden", True)]
    assert len(shown) > 40
    text = CONFIGURATION.read_text(encoding="utf-8")
    missing = [name for name in shown if f"`{name}`" not in text and f"`--{name}`" not in text]
    assert missing == []


def test_every_alias_stands_on_the_page_with_its_setting() -> None:
    renamed = {flag: key for flag, key, _, shown, _ in FLAGS
               if shown and flag != key.rpartition(".")[2]}  # fmt: skip
    documented = {spans[0].removeprefix("--"): cells[1] for spans, cells in
                  rows(CONFIGURATION.read_text(encoding="utf-8")) if spans}  # fmt: skip
    for flag, key in {**ALIASES, **PRECISION_FLAGS, **renamed}.items():
        assert f"`{key}`" in documented.get(flag, ""), flag


def test_every_field_that_is_decided_elsewhere_stands_on_the_page() -> None:
    listed = {span for spans, _ in rows(section_of_page("training")) for span in spans}
    assert {*ELSEWHERE, *FIXED} <= listed


def test_every_exit_code_stands_on_the_page() -> None:
    codes, kinds = {0}, [TextassayError]
    while kinds:
        kind = kinds.pop()
        codes.add(kind.exit_code)
        kinds += kind.__subclasses__()
    codes.add(INTERRUPTED)
    assert {1, 2, 3, 65, 75, 130} <= codes
    text = CONFIGURATION.read_text(encoding="utf-8").split("## Exit codes")[1]
    assert {int(cells[0]) for _, cells in rows(text) if cells[0].isdigit()} == codes


def test_every_variable_stands_on_the_page() -> None:
    read = re.compile(r"\b(?:TEXTASSAY|HF)_[A-Z][A-Z_]*[A-Z]\b")
    files = [*SOURCES.rglob("*.py"), *(ROOT / "scripts").iterdir(), *ROOT.glob("*.sh"),
             ROOT / "tests" / "run.sh", ROOT / ".ci" / "run"]  # fmt: skip
    named = {
        name
        for path in files
        if path.is_file()
        for name in read.findall(path.read_text(encoding="utf-8"))
        if "__" not in name
    }
    assert "TEXTASSAY_CACHE" in named
    text = CONFIGURATION.read_text(encoding="utf-8")
    assert [name for name in sorted(named) if f"`{name}`" not in text] == []


def test_every_figure_is_explained() -> None:
    explained = {span for spans, _ in rows(OUTPUTS.read_text(encoding="utf-8")) for span in spans}
    assert set(NAMES) <= explained


def test_the_error_messages_that_are_explained_exist() -> None:
    texts = [node.value for path in SOURCES.rglob("*.py")
             for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.Constant) and isinstance(node.value, str)]  # fmt: skip
    table = YOUR_DATA.read_text(encoding="utf-8").split("## When it is refused")[1]
    said = [spans[0] for spans, _ in rows(table) if spans]
    assert len(said) > 20
    assert [message for message in said if not any(message in text for text in texts)] == []


def test_the_example_of_an_env_file_works(tmp_path: Path) -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    settings = re.findall(r"^# (TEXTASSAY_\w+=.*)$", example, re.MULTILINE)
    assert len(settings) > 10
    path = tmp_path / "my.env"
    path.write_text("\n".join(settings), encoding="utf-8")
    assert len(read_env_file(path)) == len(settings)
    _, resolved = resolve_job(None, path, {}, {}, "lora")
    assert sum(setting.source == str(path) for setting in resolved) == len(settings)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_dead(page: Path) -> None:
    assert [link for link in links(page) if dead(page, link)] == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_files_that_are_named_exist(page: Path) -> None:
    words = [word for span in CODE.findall(prose(page)) for word in span.split()]
    named = [path for word in words if (path := file_named(word))]
    places = (page.parent, ROOT, SOURCES)
    assert [path for path in named if not any((place / path).exists() for place in places)] == []


def test_dead_links_and_missing_files_are_found(tmp_path: Path) -> None:
    """The two tests above look at something."""
    text = "[a](nowhere.md) [b](configuration.md#nothing) [c](https://example.org) ![d](e.png)\n"
    page = tmp_path / "page.md"
    page.write_text(text + "```\n[f](in-code.md)\n```\n", encoding="utf-8")
    assert links(page) == ["nowhere.md", "configuration.md#nothing", "e.png"]
    assert all(dead(CONFIGURATION, link) for link in links(page))
    assert not dead(CONFIGURATION, "configuration.md#exit-codes")
    assert not dead(CONFIGURATION, "../jobs/quickstart.yaml")
    assert file_named("jobs/nothing.yaml") and file_named("training/run.py")
    assert file_named("model/hallmark.json") is None and file_named("runs/a/b.yaml") is None
    assert sum(len(links(page)) for page in pages()) > 10
