"""The generated tables say what the libraries and the schema say now."""

from pathlib import Path
from typing import Literal

from textassay.config import flag_table, generate, library_fields

AGAIN = "run `python -m textassay.config.generate`"


def test_the_fields_of_training_arguments_are_those_of_the_library():
    assert generate.training_arguments() == library_fields.TRAINING_ARGUMENTS, AGAIN


def test_the_fields_of_every_method_are_those_of_peft():
    assert generate.peft_fields() == library_fields.PEFT_FIELDS, AGAIN


def test_the_flags_are_those_of_the_schema():
    assert generate.flags() == flag_table.FLAGS, AGAIN


def test_no_flag_stands_for_two_settings():
    flags = [flag for flag, *_ in flag_table.FLAGS]
    assert len(flags) == len(set(flags))


def test_the_kind_of_a_field_names_all_that_it_admits():
    kinds = {
        bool: "bool", int | None: "int", float: "float", int | float: "int|float", str: "str",
        list[str] | str: "list|str", set[str]: "list", dict[str, int] | str | None: "dict",
        bool | Literal["gaussian"]: "bool|str", list[int] | int: "int|list[int]",
        list[tuple[int, int]]: "list", Path: "any", dict | Path: "any",
    }  # fmt: skip
    assert {annotation: generate.kind_of(annotation) for annotation in kinds} == kinds
