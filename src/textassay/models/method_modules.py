"""Whether what a method names is in the model: PEFT passes over names that are not."""

import difflib
import re
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import nn

from textassay.console import some
from textassay.errors import UsageError, first_line
from textassay.models.predict import pad_batch

NAMING = ("target_modules", "modules_to_save", "exclude_modules", "feedforward_modules")
PATTERNS = ("rank_pattern", "alpha_pattern")
LAYER = re.compile(r"\.(\d+)(?=\.|$)")


def refuse_missing_modules(model: Any, settings: dict[str, Any]) -> None:
    """UsageError for modules, parameters and layers that a model without adapter does not have."""
    modules = [name for name, _ in model.named_modules()]
    parameters = [name for name, _ in model.named_parameters()]
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for field in NAMING:
        advice = f"its linear modules end in {', '.join(_ends(linear))}"
        _refuse_missing(field, settings, modules, "module", advice)
    advice = "see the names of its parameters"
    _refuse_missing("target_parameters", settings, parameters, "parameter", advice)
    pattern = settings.get("exclude_modules")
    if isinstance(pattern, str) and not any(_matches(pattern, name) for name in modules):
        raise UsageError(f"method.exclude_modules: {pattern} fits no module of this model.")
    layers = {int(number) for name in modules for number in LAYER.findall(name)}
    wanted = settings.get("layers_to_transform")
    for layer in [wanted] if isinstance(wanted, int) else wanted or []:
        if layer not in layers:
            there = f"0 to {max(layers)}" if layers else "none"
            raise UsageError(
                f"method.layers_to_transform: this model has no layer {layer}; its layers are "
                f"{there}."
            )


def refuse_unused_patterns(model: Any, settings: dict[str, Any]) -> None:
    """UsageError for a rank or an alpha by module that no module with an adapter fits."""
    adapted = getattr(getattr(model, "base_model", None), "targeted_module_names", [])
    for field in PATTERNS:
        for pattern in settings.get(field) or {}:
            if not any(_matches(rf"(.*\.)?({pattern})", name) for name in adapted):
                raise UsageError(
                    f"method.{field}: {pattern} fits no module that gets an adapter; these end in "
                    f"{some(_ends(adapted), 20)}."
                )


def refuse_failing_forward(model: Any, ids: Collection[int], pad_id: int, method: str) -> None:
    """UsageError where the model cannot classify a text with the method's adapter on it.

    Some of PEFT's methods want more than texts, and say so only then.
    """
    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in pad_batch([list(ids)], pad_id).items()}
    trains = model.training
    model.eval()  # nothing is drawn at random
    try:
        with torch.no_grad():
            model(**batch)
    except Exception as error:
        raise UsageError(
            f"method: {method} on this model does not classify a text ({type(error).__name__}: "
            f"{first_line(error)[:200]}); choose another method, or another model."
        ) from None
    finally:
        model.train(trains)


def _refuse_missing(
    field: str, settings: dict[str, Any], there: list[str], what: str, advice: str
) -> None:
    named = settings.get(field)
    for name in named if isinstance(named, list) else []:
        if not any(other == name or other.endswith(f".{name}") for other in there):
            alike = difflib.get_close_matches(name, _ends(there), n=1)
            meant = f"did you mean {alike[0]}?" if alike else f"{advice}."
            raise UsageError(f"method.{field}: this model has no {what} {name}; {meant}")


def _ends(names: Iterable[str]) -> list[str]:
    """The last parts of the names of modules."""
    ends = {name.rpartition(".")[2] for name in names}
    return sorted(end for end in ends if end and not end.isdigit())


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error as error:
        raise UsageError(f"method: {pattern} is no regular expression ({error}).") from None
