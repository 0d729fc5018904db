"""Models get names that people would give them."""

import pytest

from textassay.errors import UsageError
from textassay.serving.settings import name_models


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("runs/weibo/seed-0",), ["weibo"]),
        (("runs/weibo/seed-0/onnx-int8",), ["weibo"]),
        (("runs/weibo/seed-0/model/",), ["weibo"]),
        (("runs/weibo/seed-0", "runs/weibo/seed-42"), ["weibo-seed-0", "weibo-seed-42"]),
        (("runs/a/seed-0/onnx", "runs/a/seed-0/model"), ["a-seed-0-onnx", "a-seed-0-model"]),
        (("runs/a/seed-0", "runs/b/seed-0"), ["a", "b"]),
        (("old=runs/a/seed-0", "runs/a/seed-1"), ["old", "a"]),
        (("org/some classifier",), ["some-classifier"]),
        (("seed-0",), ["seed-0"]),
    ],
)
def test_names(arguments, names) -> None:
    assert [name for name, _ in name_models(arguments)] == names


def test_a_directory_with_an_equals_sign_is_a_directory(tmp_path) -> None:
    (tmp_path / "lr=0.1").mkdir()
    assert name_models((str(tmp_path / "lr=0.1"),)) == (("lr-0.1", str(tmp_path / "lr=0.1")),)


@pytest.mark.parametrize(
    "arguments", [("a/b=x",), ("=x",), ("a=",), ("a=x", "a=y"), ("x/a", "x/a")]
)
def test_names_that_are_none_are_refused(arguments) -> None:
    with pytest.raises(UsageError):
        name_models(arguments)
