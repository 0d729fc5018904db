"""What a process of its own complains about comes back as one sentence without colours."""

from pathlib import Path

import pytest

from textassay.artifacts.fresh_process import run_in_fresh_process
from textassay.errors import GateError

MODULES = {
    "ours": "from rich.console import Console\nc = Console(stderr=True, soft_wrap=True)\n"
    "c.print('note: beside it', style='yellow')\n"
    "c.print('error: /a/b: broken.', style='red')\nraise SystemExit(3)",
    "library": r"raise RuntimeError('\x1b[1;31mno\x1b[0m such tensor')",
    "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("ours", "does not hold in a fresh process: /a/b: broken."),
        ("library", "RuntimeError: no such tensor"),
        ("killed", "it ended with -9"),
    ],
)
def test_the_reason_is_said(
    module: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "asked.py").write_text(MODULES[module])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(GateError) as refused:
        run_in_fresh_process("asked", [], "it does not hold")
    message = str(refused.value)
    assert said in message
    assert "\x1b" not in message
    assert "note" not in message
