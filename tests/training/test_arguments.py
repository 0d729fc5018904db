"""Epochs are added where few rows would be few steps."""

from types import SimpleNamespace

import pytest

from textassay.training.arguments import add_epochs


@pytest.mark.parametrize(
    ("rows", "changes", "epochs"),
    [
        (720, {}, 9),  # 23 steps an epoch: 207
        (6_913, {}, 3),  # 217 steps an epoch
        (1, {}, 200),
        (720, {"per_device_train_batch_size": 16}, 5),  # 45 steps: 225
        (720, {"gradient_accumulation_steps": 2}, 17),  # 12 steps: 204
        (720, {"world_size": 2}, 17),
        (720, {"num_train_epochs": 30}, 30),
        (720, {"max_steps": 5}, 3),
    ],
)
def test_so_many_steps_are_taken_at_least(rows: int, changes: dict[str, int], epochs: int) -> None:
    told = {"per_device_train_batch_size": 32, "gradient_accumulation_steps": 1, "world_size": 1,
            "max_steps": -1, "num_train_epochs": 3, **changes}  # fmt: skip
    arguments = SimpleNamespace(**told)
    add_epochs(arguments, 200, rows)
    assert arguments.num_train_epochs == epochs
    untouched = SimpleNamespace(**told)
    add_epochs(untouched, 0, rows)
    assert vars(untouched) == told
