"""Tiny bases, each made once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.classifiers_for_tests import FAMILIES, WIDER, resized


@pytest.fixture(scope="session")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """base_of(family): the folder of a tiny base model."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            made[family] = FAMILIES[family](tmp_path_factory.mktemp(family))
        return made[family]

    return make


@pytest.fixture(scope="session")
def wide_base_of(
    base_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """wide_base_of(family): a tiny base of 64 dimensions, as 4 bits need them."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            folder = tmp_path_factory.mktemp(f"wide-{family}")
            made[family] = resized(base_of(family), folder, **WIDER[family])
        return made[family]

    return make
