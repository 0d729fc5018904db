"""Tuning methods: PEFT's, by PEFT's names."""

import dataclasses
from typing import Any

from torch import nn

from textassay.config.schema import MethodSection
from textassay.console import some
from textassay.errors import UsageError, first_line
from textassay.models.bottleneck import register
from textassay.models.classifier import BuiltClassifier, is_adapter, refuse_too_long
from textassay.models.heads import LABEL_SCORING
from textassay.models.method_modules import refuse_missing_modules, refuse_unused_patterns
from textassay.models.peft_library import peft
from textassay.models.source import SETTINGS_KEY


def attach(
    built: BuiltClassifier, method: MethodSection, base_name: str, revision: str | None = None
) -> Any:
    """The model as the method tunes it; `full` leaves it as it is.

    Whatever is fresh in the classifier is trained and saved beside the adapter. `base_name` and
    `revision` are what the saved adapter says of its base.
    """
    if method.name == "full":
        return built.model
    refuse_missing_modules(built.model, method.settings())
    config = peft_config(method, built.fresh, base_name, _task_of(built.model))
    config.revision = revision
    model = _put_on(built.model, config, method)
    refuse_unused_patterns(model, method.settings())
    if getattr(config, "modules_to_save", None):
        # PEFT adds the heads' usual names, again and again.
        config.modules_to_save = list(dict.fromkeys(config.modules_to_save))
    # PEFT puts the folder that the base was loaded from there, which means nothing elsewhere.
    config.base_model_name_or_path = base_name
    return model


def _put_on(model: Any, config: peft.PeftConfig, method: MethodSection) -> Any:
    """PEFT's model. Each of its forty methods has errors of its own; all become a UsageError."""
    if config.is_prompt_learning:
        _refuse_virtual_tokens(model, method.name)
        longest = getattr(model.config, SETTINGS_KEY)["max_seq_length"]
        refuse_too_long(model, longest + (getattr(config, "num_virtual_tokens", None) or 0))
    try:
        return peft.get_peft_model(model, config)
    except Exception as error:
        reason = first_line(error).split(". ")[0]
        if not isinstance(error, ValueError):
            raise UsageError(
                f"method: PEFT cannot put {method.name} on this model with the settings "
                f"{method.settings()} ({type(error).__name__}: {reason[:200]}); see its page in "
                "PEFT's documentation for what it needs."
            ) from None
        linear = sorted({name.rpartition(".")[2] for name, module in model.named_modules()
                         if isinstance(module, nn.Linear)})  # fmt: skip
        raise UsageError(
            f"method: {method.name} with target_modules {method.settings().get('target_modules')} "
            f"does not fit this model ({reason}); its linear modules end in {some(linear, 20)}."
        ) from None


def peft_config(
    method: MethodSection,
    fresh: list[str],
    base_name: str,
    task: peft.TaskType = peft.TaskType.SEQ_CLS,
) -> peft.PeftConfig:
    """PEFT's config for the method, with the fresh modules among those to save."""
    register()
    config_class = _config_class(method.name)
    fields = {field.name for field in dataclasses.fields(config_class)}
    settings = method.settings()
    if "modules_to_save" in fields:
        named = list(settings.get("modules_to_save") or [])
        whole = [*(m for m in fresh if not _is_within(m, named)), *named]
        settings["modules_to_save"] = whole or None
    try:
        return config_class(task_type=task, base_model_name_or_path=base_name, **settings)
    except (TypeError, ValueError) as error:
        raise UsageError(f"method: {method.name}: {error}") from None


def refuse_unmergeable(model: Any) -> None:
    """UsageError before the training where a merged model is wanted and the method allows none."""
    if not is_adapter(model):
        return
    method = model.active_peft_config.peft_type.value.lower()
    try:
        model.base_model._check_merge_allowed()
    except AttributeError:  # virtual tokens: there is no tuner around the model
        reason = "it adds tokens, not weights"
    except ValueError as error:
        reason = str(error)
    else:
        if not _has_biases_without_a_place(model):
            return
        reason = "lora_bias adds a bias to layers that have none"
    raise UsageError(
        f"artifact.save_merged: {method} cannot be merged into the weights ({reason}); leave "
        "save_merged and final_model_dir out."
    )


def _has_biases_without_a_place(model: Any) -> bool:
    """Whether LoRA's own biases would have to be merged into layers without one."""
    return bool(getattr(model.active_peft_config, "lora_bias", False)) and any(
        module.get_base_layer().bias is None
        for module in model.modules()
        if isinstance(module, peft.tuners.lora.LoraLayer)
    )


def merge(model: Any) -> Any:
    """The plain transformers model that computes what base and adapter compute together.

    The adapter's model is used up. UsageError where the method is no change of weights.
    """
    method = model.active_peft_config.peft_type.value.lower()
    # PEFT's own unwrapping takes a module for a single layer, or (ln_tuning) forgets it.
    whole = model.get_base_model()
    for name, module in list(whole.named_modules()):
        if isinstance(module, peft.utils.ModulesToSaveWrapper):
            whole.set_submodule(name, module.modules_to_save[model.active_adapter])
    try:
        merged: Any = model.merge_and_unload()
    except (AttributeError, NotImplementedError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"{method}: this method cannot be merged into the weights ({str(error).split('. ')[0]})"
            "; ship the adapter as it is."
        ) from None
    return merged


def _task_of(model: Any) -> peft.TaskType:
    scores_labels = getattr(model.config, SETTINGS_KEY)["head"] == LABEL_SCORING
    return peft.TaskType.CAUSAL_LM if scores_labels else peft.TaskType.SEQ_CLS


def _refuse_virtual_tokens(model: Any, method: str) -> None:
    """Methods that put virtual tokens before the text hand over embeddings and no token ids."""
    if hasattr(model, "score") or _task_of(model) is peft.TaskType.CAUSAL_LM:
        raise UsageError(
            f"method.name: {method} hides the tokens from a decoder, which then cannot find a "
            "text's last one; use it with an encoder, or lora here."
        )


def _is_within(module: str, named: list[str]) -> bool:
    """Whether a module is one of the named ones, or inside one: PEFT would save it twice."""
    parts = module.split(".")
    parents = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return any(parent.endswith(name) for parent in parents for name in named)


def _config_class(name: str) -> Any:
    for peft_type, config_class in peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING.items():
        if peft_type.value.lower() == name:
            return config_class
    raise UsageError(f"method.name: this PEFT has no {name}.")
