"""docs/planning.md, block by block as it stands: its commands print what it shows."""

import re
import shlex
from pathlib import Path

import pytest
from tests.commands_for_tests import go_offline, script

from textassay.files import project_root

PAGE = project_root() / "docs" / "planning.md"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d[\d,.]*")
# What depends on the machine: its precision, its speed, and the dots of a rule.
VARIES = re.compile(r"bf16|fp32|\d+ (?:h|min|s)\b(?: \d+ (?:min|s)\b)?")


def blocks() -> list[tuple[str, str]]:
    """(language, content) of the page's blocks; what a command prints follows it, unnamed."""
    return FENCED.findall(PAGE.read_text(encoding="utf-8"))


def shape(line: str) -> str:
    """A line without numbers, which differ from machine to machine by a little."""
    return NUMBER.sub("#", VARIES.sub("#", line)).strip()


def run(commands: str) -> str:
    """The commands of a block, in this process, which has imported torch already."""
    said = ""
    for words in _commands(commands):
        if words[:2] == ["python", "-c"]:
            exec(words[2], {})
            continue
        assert words[:2] == ["textassay", "plan"], words
        done = script("plan")(*words[2:])
        assert done.exit_code == 0, done.stderr
        said += done.stdout + done.stderr
    return said


def _commands(block: str) -> list[list[str]]:
    """Each command in words; one goes on over lines until its quotes are closed."""
    found: list[list[str]] = []
    whole = ""
    for line in block.splitlines(keepends=True):
        whole += line
        if whole.count('"') % 2 == 0:
            found.append(shlex.split(whole))
            whole = ""
    assert not whole
    return found


@pytest.mark.slow
def test_the_page_shows_what_its_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_offline(monkeypatch, tmp_path / "caches")
    monkeypatch.chdir(tmp_path)
    for name in ("jobs", "data"):
        (tmp_path / name).symlink_to(project_root() / name)
    found = blocks()
    commands = [place for place, (language, _) in enumerate(found) if language == "bash"]
    assert len(commands) >= 3
    for place in commands:
        printed = [shape(line) for line in run(found[place][1]).splitlines() if line.strip()]
        shown = [shape(line) for line in found[place + 1][1].splitlines() if line.strip()]
        assert sorted(shown) == sorted(printed)  # what is said on standard error comes last here
    assert not (tmp_path / "runs").exists()


def test_the_page_shows_what_is_said_where_the_config_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_offline(monkeypatch, tmp_path / "caches")
    done = script("plan")(project_root() / "jobs" / "r8_llama_deepspeed.yaml")
    assert done.exit_code == 2
    assert any(content == done.stderr for _, content in blocks())
