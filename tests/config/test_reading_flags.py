"""The flags that say how files are written are settings, and every reader has them."""

import importlib
import json

import click
import pytest
from click.testing import CliRunner

from textassay.config.reading_flags import FLAGS, label_options, reading_options
from textassay.config.schema import DataSection


def test_each_flag_is_a_setting_of_the_same_name():
    assert set(FLAGS) < set(DataSection.model_fields)


@pytest.mark.parametrize("script", ["predict", "evaluate", "clean", "compare", "export"])
def test_every_command_that_reads_files_has_them(script):
    module = importlib.import_module(f"textassay.commands.{script}")
    assert set(FLAGS) <= {option.name for option in module.main.params}


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], {}),
        (["--label_type", "category"], {"label_type": "category"}),
        (["--normalize_labels", "--encoding", "cp1252"],
         {"normalize_labels": True, "encoding": "cp1252"}),
    ],
)  # fmt: skip
def test_what_labels_mean_is_told_with_how_a_file_is_written(flags, told):
    @click.command()
    @reading_options
    @label_options
    def command(reading):
        assert DataSection.model_validate(reading).model_fields_set == set(told)
        click.echo(json.dumps(reading))

    made = CliRunner().invoke(command, flags)
    assert json.loads(made.stdout) == told, made.output
