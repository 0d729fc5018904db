"""Tuning methods: PEFT's, by PEFT's names."""

import dataclasses
from typing import Any

from peft import PeftConfig, TaskType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch import nn

from textassay.config.schema import MethodSection
from textassay.errors import UsageError
from textassay.models.classifier import BuiltClassifier


def attach(built: BuiltClassifier, method: MethodSection, base_name: str) -> Any:
    """The model as the method tunes it; `full` leaves it as it is.

    Whatever is fresh in the classifier is trained and saved beside the adapter. `base_name` is what
    the saved adapter calls its base.
    """
    if method.name == "full":
        return built.model
    config = peft_config(method, built.fresh, base_name)
    try:
        model = get_peft_model(built.model, config)
    except ValueError as error:
        linear = sorted({name.rpartition(".")[2] for name, module in built.model.named_modules()
                         if isinstance(module, nn.Linear)})  # fmt: skip
        raise UsageError(
            f"method: {method.name} with target_modules {method.settings().get('target_modules')} "
            f"does not fit this model ({str(error).split('. ')[0]}); its linear modules end in "
            f"{', '.join(linear)}."
        ) from None
    # PEFT puts the folder that the base was loaded from there, which means nothing elsewhere.
    config.base_model_name_or_path = base_name
    return model


def peft_config(method: MethodSection, fresh: list[str], base_name: str) -> PeftConfig:
    """PEFT's config for the method, with the fresh modules among those to save."""
    config_class = _config_class(method.name)
    fields = {field.name for field in dataclasses.fields(config_class)}
    settings = method.settings()
    if "modules_to_save" in fields:
        named = list(settings.get("modules_to_save") or [])
        settings["modules_to_save"] = [*(m for m in fresh if not _is_within(m, named)), *named]
    try:
        return config_class(
            task_type=TaskType.SEQ_CLS, base_model_name_or_path=base_name, **settings
        )
    except (TypeError, ValueError) as error:
        raise UsageError(f"method: {method.name}: {error}") from None


def is_adapter(model: Any) -> bool:
    """Whether PEFT wraps the model."""
    from peft import PeftModel

    return isinstance(model, PeftModel)


def _is_within(module: str, named: list[str]) -> bool:
    """Whether a module is one of the named ones, or inside one: PEFT would save it twice."""
    parts = module.split(".")
    parents = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return any(parent.endswith(name) for parent in parents for name in named)


def _config_class(name: str) -> Any:
    for peft_type, config_class in PEFT_TYPE_TO_CONFIG_MAPPING.items():
        if peft_type.value.lower() == name:
            return config_class
    raise UsageError(f"method.name: this PEFT has no {name}.")
