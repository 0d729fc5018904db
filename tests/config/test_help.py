"""`--help` shows what people use, and `--help_all` every option."""

import click
import pytest
from click.testing import CliRunner

from textassay.config.flags import batch_options, run_options
from textassay.config.help import COMMON

MOST_SETTINGS = 25


@pytest.fixture(params=[run_options("lora"), batch_options], ids=["one run", "a batch"])
def command(request):
    return request.param(lambda *_: None)


def shown(command, flag):
    """The names of the options in a help text."""
    result = CliRunner().invoke(command, [flag])
    assert result.exit_code == 0, result.output
    words = [line.split()[0] for line in result.stdout.splitlines() if line.strip()]
    return [word.removeprefix("--") for word in words if word.startswith("--")]


def test_help_shows_the_common_settings_by_their_headings(command):
    common = [name for names in COMMON.values() for name in names]
    assert len(common) == len(set(common)) <= MOST_SETTINGS
    assert set(shown(command, "--help")) == {*common, "help", "help_all"}
    text = CliRunner().invoke(command, ["--help"]).stdout
    assert [f"\n{heading}:\n" in text for heading in COMMON] == [True] * len(COMMON)


def test_help_all_shows_every_option_once(command):
    names = {option.name for option in command.params if isinstance(option, click.Option)}
    every = shown(command, "--help_all")
    assert len(every) == len(set(every)) > 400
    assert {*names, "help", "help_all"} == {name.lower() for name in every}


def test_a_word_that_is_no_choice_is_refused_by_the_setting_that_it_is_for(command):
    result = CliRunner().invoke(command, ["--precision", "x", "--show_config"])
    assert result.exit_code == 2
    assert "training.precision" in result.stderr and "'bf16'" in result.stderr
