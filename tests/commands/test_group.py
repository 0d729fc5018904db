"""`textassay`: every command under one name, shown under headings, completed by the shell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import textassay.commands
from textassay import __version__
from textassay.commands.group import NAMES, SECTIONS, main
from textassay.files import project_root

FOLDER = Path(textassay.commands.__file__).parent
SCRIPTS = project_root() / "scripts"


def modules():
    """The names of the modules that hold a command."""
    return {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "group"}


def test_every_command_stands_in_the_help_text_under_its_heading():
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0, result.output
    place = -1
    for heading, commands in SECTIONS.items():
        for text in (f"\n{heading}:\n", *(f"\n  {name} " for name in commands)):
            assert result.stdout.index(text) > place, text
            place = result.stdout.index(text)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_answers_under_its_name(name):
    for spelling in {name, name.replace("-", "_")}:
        result = CliRunner().invoke(main, [spelling, "--help"])
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith(f"Usage: textassay {name} ".replace("textassay", "main"))


def test_every_module_is_a_command_and_every_script_starts_one():
    named = {name.replace("-", "_") for name in NAMES}
    assert modules() - {"train_batch"} | {"train"} == named
    assert {path.stem for path in SCRIPTS.glob("*.py")} == modules() - {"submit"}


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_a_script_is_the_command_of_its_name(path):
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
    assert len(lines) == 4
    assert lines[1].startswith(f"from textassay.commands.{path.stem} import ")


def test_help_imports_no_command_and_no_heavy_library():
    code = (
        "import sys; from textassay.commands.group import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'pydantic', 'textassay.commands.serve', 'rich'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def completed(words):
    """What bash is offered behind these words."""
    environment = {**os.environ, "_TEXTASSAY_COMPLETE": "bash_complete", "COMP_WORDS": words,
                   "COMP_CWORD": str(len(words.split(" ")) - 1)}  # fmt: skip
    command = [sys.executable, "-m", "textassay"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_the_shell_completes_commands_options_and_choices():
    assert completed("textassay ver") == ["verify"]
    assert completed("textassay train --early_stopping_p") == ["--early_stopping_patience"]
    assert completed("textassay train --precision ") == ["auto", "bf16", "fp16", "fp32"]


def test_python_m_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "textassay", "--version"], capture_output=True, text=True
    )
    assert done.stdout == f"textassay, version {__version__}\n"


def test_an_unknown_command_is_refused():
    result = CliRunner().invoke(main, ["tran"])
    assert result.exit_code == 2 and "tran" in result.stderr
