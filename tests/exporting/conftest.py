"""A tiny BERT classifier as ONNX, exported once."""

import pytest
from tests.exported_for_tests import Exported, export


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A tiny BERT."""
    return export(tmp_path_factory.mktemp("bert"), "bert")
