"""What we override of the Trainer is still there, with the parameters that we expect.

A method that the library renames would leave ours uncalled, and the run would go on without it.
"""

import ast
import inspect
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers
from packaging.requirements import Requirement

from textassay.files import project_root
from textassay.training.distillation import DistillingTrainer
from textassay.training.trainer import AssayTrainer
from textassay.training.zero_trainer import ZeroTrainer

OURS = (AssayTrainer, DistillingTrainer, ZeroTrainer)
# {method of transformers.Trainer: its parameters}
EXPECTED: dict[str, tuple[str, ...]] = {
    "_determine_best_metric": ("metrics", "trial"),
    "_get_eval_sampler": ("eval_dataset",),
    "_get_train_sampler": ("train_dataset",),
    "_init_training_state": (
        "max_steps", "num_update_steps_per_epoch", "num_train_epochs", "resume_from_checkpoint",
        "trial",
    ),
    "_load_from_checkpoint": ("resume_from_checkpoint", "model"),
    "_maybe_log_save_evaluate": (
        "tr_loss", "grad_norm", "model", "trial", "epoch", "ignore_keys_for_eval", "start_time",
        "learning_rate",
    ),
    "_prepare_for_training": ("max_steps", "train_dataloader", "resume_from_checkpoint"),
    "_save": ("output_dir", "state_dict"),
    "_save_checkpoint": ("model", "trial"),
    "compute_loss": ("model", "inputs", "return_outputs", "num_items_in_batch"),
    "floating_point_ops": ("inputs",),
    "get_eval_dataloader": ("eval_dataset",),
    "save_model": ("output_dir", "_internal_call"),
}  # fmt: skip
# Private methods that we call and leave as they are.
CALLED = {"_evaluate": ("trial", "ignore_keys_for_eval", "skip_scheduler")}


def parameters(function: object) -> tuple[str, ...]:
    """The names of a method's parameters, self left out."""
    return tuple(inspect.signature(function).parameters)[1:]  # type: ignore[arg-type]


def overridden() -> set[str]:
    """The methods of our trainers that the library's has, too."""
    return {name for kind in OURS for name in vars(kind)
            if name in vars(transformers.Trainer) and not name.startswith("__")}  # fmt: skip


def sent_to_super() -> set[str]:
    """Every method `x` that our trainers call as `super().x`; the library must have it."""
    return {node.attr for node in _nodes() if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Call)
            and getattr(node.value.func, "id", "") == "super"} - {"__init__"}  # fmt: skip


def _nodes() -> Iterator[ast.AST]:
    for kind in OURS:
        yield from ast.walk(ast.parse(Path(inspect.getfile(kind)).read_text(encoding="utf-8")))


@pytest.mark.parametrize(("name", "names"), [*EXPECTED.items(), *CALLED.items()])
def test_the_library_has_the_hook_with_these_parameters(name: str, names: tuple[str, ...]) -> None:
    assert parameters(getattr(transformers.Trainer, name)) == names


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_an_override_takes_what_the_library_passes(kind: type) -> None:
    for name in vars(kind).keys() & EXPECTED.keys():
        signature = inspect.signature(vars(kind)[name])
        names = EXPECTED[name]
        signature.bind(None, *names)  # by position
        signature.bind(None, **dict.fromkeys(names))  # by name


def private_calls() -> set[str]:
    """The private methods of the library that our trainers call on themselves."""
    known = {name for name in vars(transformers.Trainer) if name.startswith("_")}
    return {node.attr for node in _nodes() if isinstance(node, ast.Attribute)
            and getattr(node.value, "id", "") == "self" and node.attr in known}  # fmt: skip


def test_every_override_and_every_private_call_is_expected() -> None:
    assert overridden() == set(EXPECTED)
    assert sent_to_super() <= set(EXPECTED)
    assert private_calls() <= {*EXPECTED, *CALLED}


def test_the_libraries_with_private_hooks_are_bounded_above() -> None:
    """A release that nobody tried here may have renamed what we override."""
    project = tomllib.loads((project_root() / "pyproject.toml").read_text(encoding="utf-8"))
    named = [*project["project"]["dependencies"],
             *project["project"]["optional-dependencies"]["deepspeed"]]  # fmt: skip
    bounded = {Requirement(line).name for line in named if "<" in str(Requirement(line).specifier)}
    assert {"transformers", "peft", "accelerate", "deepspeed"} <= bounded
