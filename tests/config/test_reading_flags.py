"""The flags that say how files are written are settings, and every reader has them."""

import importlib.util

import pytest

from textassay.config.reading_flags import FLAGS
from textassay.config.schema import DataSection
from textassay.files import project_root


def test_each_flag_is_a_setting_of_the_same_name():
    assert set(FLAGS) < set(DataSection.model_fields)


@pytest.mark.parametrize("script", ["predict", "evaluate", "clean", "compare", "export"])
def test_every_command_that_reads_files_has_them(script):
    path = project_root() / "scripts" / f"{script}.py"
    spec = importlib.util.spec_from_file_location(f"{script}_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert set(FLAGS) <= {option.name for option in module.main.params}
