"""Commands that are called in a folder of their own, offline."""

from pathlib import Path

import pytest
from tests.commands_for_tests import go_offline


@pytest.fixture
def offline_folder(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The current folder of a test that calls a command."""
    monkeypatch.chdir(tmp_path)
    go_offline(monkeypatch, tmp_path_factory.getbasetemp() / "caches")
    return tmp_path
