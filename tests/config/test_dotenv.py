"""Settings from the environment and from `.env` files."""

import os
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textassay.config.dotenv import (
    VARIABLES,
    hub_is_off,
    read_env_file,
    refuse_unknown,
    settings_in,
)
from textassay.config.load import flatten
from textassay.config.schema import Job
from textassay.errors import UsageError
from textassay.files import project_root

SETTINGS = sorted(key for key in flatten(Job()) if "." in key)
PLAIN = string.ascii_letters + string.digits + string.punctuation.replace("'", "").replace("\\", "")


@given(st.dictionaries(st.sampled_from(SETTINGS), st.text(PLAIN, min_size=1)))
def test_every_setting_of_a_section_has_a_variable(wanted):
    variables = {f"TEXTASSAY_{key.replace('.', '__').upper()}": v for key, v in wanted.items()}
    assert settings_in(variables) == wanted


@given(st.dictionaries(st.sampled_from(SETTINGS), st.text(PLAIN + " ", min_size=1)))
def test_what_is_quoted_in_an_env_file_comes_back_as_it_stands(tmp_path_factory, wanted):
    path = tmp_path_factory.getbasetemp() / "quoted.env"
    lines = [f"TEXTASSAY_{key.replace('.', '__').upper()}='{v}'\n" for key, v in wanted.items()]
    path.write_text("# a comment\n\n" + "".join(lines))
    assert settings_in(read_env_file(path)) == wanted


@pytest.mark.parametrize(
    "name",
    ["TEXTASSAY_HOME", "TEXTASSAY_CACHE", "HF_HOME", "TRAINING__MAX_STEPS", "MY_TEXTASSAY_A__B"],
)
def test_a_variable_that_is_no_setting_is_left_alone(name):
    assert settings_in({name: "1"}) == {}


def test_an_empty_variable_counts_as_not_set():
    assert settings_in({"TEXTASSAY_TRAINING__MAX_STEPS": ""}) == {}


def test_an_env_file_changes_nothing_in_the_process(write):
    path = write("my.env", "TEXTASSAY_TRAINING__MAX_STEPS=3\n")
    before = dict(os.environ)
    assert read_env_file(path) == {"TEXTASSAY_TRAINING__MAX_STEPS": "3"}
    assert dict(os.environ) == before


def test_export_quotes_and_comments_are_read_as_shells_do(write):
    path = write("my.env", "export A=1 # why\nB=\"two words\"\nC='${A}'\nD=${A}\nE\n")
    assert read_env_file(path) == {"A": "1", "B": "two words", "C": "${A}", "D": "${A}", "E": ""}


def test_an_env_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.env"):
        read_env_file(tmp_path / "nowhere.env")


@pytest.mark.parametrize("value", ["", "0", "1", "false", "TRUE", "no", "Yes", "off", "on", "2"])
@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_hub_is_off_by_the_values_that_its_library_knows(name, value, monkeypatch) -> None:
    from huggingface_hub import constants

    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, value)
    assert hub_is_off() == constants._is_true(value)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("TEXTASSAY_TRAINING_LEARNING_RATE", "did you mean TEXTASSAY_TRAINING__LEARNING_RATE?"),
        ("TEXTASSAY_METHOD_LORA_ALPHA", "did you mean TEXTASSAY_METHOD__LORA_ALPHA?"),
        ("TEXTASSAY_LEARNING_RATE", "did you mean TEXTASSAY_TRAINING__LEARNING_RATE?"),
        ("TEXTASSAY_CACHE_DIR", "did you mean TEXTASSAY_CACHE?"),
        ("TEXTASSAY_SEEDS", "use the flag --seeds"),
    ],
)
def test_a_variable_that_nothing_reads_is_refused_with_the_nearest(name, advice):
    with pytest.raises(UsageError) as caught:
        refuse_unknown({name: "1"}, "environment")
    assert str(caught.value).startswith(f"environment: {name} is not") and advice in str(
        caught.value
    )


def test_every_variable_that_the_project_names_is_known():
    """Whoever adds one adds it to the table."""
    root, named = project_root(), set()
    for path in (p for folder in ("src", "scripts", "slurm", "docker", ".ci", "docs")
                 for p in (root / folder).rglob("*") if p.suffix in {".py", ".sh", ".md", ""}
                 or p.suffix in {".sbatch", ".Dockerfile", ".example"}):  # fmt: skip
        if path.is_file():
            named |= set(re.findall(r"\bTEXTASSAY_[A-Z]+(?:_[A-Z]+)*\b(?!__)", path.read_text()))
    examples = {name for name in named if "_SECTION" in name}
    assert "TEXTASSAY_SLURM_RUNTIME" in named and "TEXTASSAY_CACHE" in named
    refuse_unknown(dict.fromkeys(named - examples - {"TEXTASSAY_TRAINING_LEARNING_RATE"}, ""), "x")
    assert "TEXTASSAY_CACHE" in VARIABLES
