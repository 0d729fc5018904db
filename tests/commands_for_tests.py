"""The real commands in this process, and what must hold when they refuse."""

import importlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from textassay import console

# Most runs of tests take a few steps with a tiny model, which learns nothing.
ALLOW_UNLEARNED = "TEXTASSAY_EVALUATION__ALLOW_UNLEARNED"
SCRIPTS = Path(__file__).parents[1] / "scripts"
Command = Callable[..., Result]


def go_offline(monkeypatch: pytest.MonkeyPatch, caches: Path) -> None:
    """No setting of this shell, no network, and caches that are nobody's."""
    for name in list(os.environ):
        if name == ALLOW_UNLEARNED:
            continue
        if name.startswith(("TEXTASSAY_", "SLURM_", "CUDA_VISIBLE")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(caches / "hub"))
    monkeypatch.setenv("TEXTASSAY_CACHE", str(caches / "textassay"))
    # The libraries look at the variable once, when they are imported, which may have been before.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


def refuse_to_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that reaches its first step fails there with `training began`."""
    from textassay.training.trainer import AssayTrainer

    def never(*_: object, **__: object) -> None:
        raise AssertionError("training began, so nothing was refused")

    monkeypatch.setattr(AssayTrainer, "training_step", never)


def script(name: str) -> Callable[..., Result]:
    """`script("compare")(A, "--flag", "value")`: scripts/compare.py, in this process."""
    module = importlib.import_module(f"textassay.commands.{name}")

    def call(*arguments: Any) -> Result:
        console.out.cache_clear()
        console.err.cache_clear()
        return CliRunner().invoke(module.main, [*map(str, arguments)])

    return call


def command(name: str, model: Path) -> Command:
    call = script(name)
    return lambda *arguments: call(*with_defaults(arguments, model))


def with_defaults(arguments: tuple[str, ...], model: Path) -> list[str]:
    defaults = {"--model_name_or_path": model, "--max_seq_length": 32, "--output_dir": "out"}
    missing = [f"{flag}={value}" for flag, value in defaults.items() if flag not in arguments]
    return [*arguments, *missing]


def write_all(files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)


def everything() -> dict[Path, bytes]:
    """Every path below this folder, with its content."""
    return {path: path.read_bytes() if path.is_file() else b"" for path in Path().rglob("*")}


def paragraph(stderr: str) -> str:
    """What the command said, which must be one paragraph that begins with `error:`."""
    assert "Traceback" not in stderr, stderr
    assert re.fullmatch(r"error: [^\n]+\n", stderr), f"not one paragraph of ours: {stderr!r}"
    return stderr.strip()


def assert_refused(result: Result, exit_code: int, *says: str) -> None:
    """The command ended as it should. An exception that leaves it would be a traceback."""
    if not isinstance(result.exception, SystemExit):
        raise AssertionError(f"not refused, but: {result.exception!r}") from result.exception
    message = paragraph(result.stderr)
    for part in says:
        assert part in message, f"{part!r} is not in {message!r}"
    assert result.exit_code == exit_code, message
    assert result.stdout == "", result.stdout


def listed(cases: list[Any]) -> list[Any]:
    """The cases as parameters with readable names."""
    return [pytest.param(case, id=case.name.replace(" ", "-")) for case in cases]
