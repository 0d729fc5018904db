"""What `accelerate launch` left in a shell changes no training of ours."""

import os

import pytest

from textassay.training.arguments import LEFTOVERS, ignore_leftovers


@pytest.mark.parametrize(("value", "is_said"), [("true", True), ("1", True), ("false", False)])
def test_variables_of_accelerate_are_ignored_and_named(
    value: str, is_said: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in LEFTOVERS:
        monkeypatch.setenv(name, value)
    ignore_leftovers()
    assert not set(LEFTOVERS) & set(os.environ)
    said = capsys.readouterr().err
    assert all((name in said) == is_said for name in LEFTOVERS)
