"""A frozen base in 4 bits (QLoRA, Dettmers et al. 2023, arXiv:2305.14314), through bitsandbytes."""

from collections.abc import Mapping, Sequence
from typing import Any

import transformers
from torch import nn
from transformers.pytorch_utils import Conv1D

from textassay.config.schema import ModelSection
from textassay.errors import TextassayError, UsageError
from textassay.models.source import SETTINGS_KEY

# Where transformers' config says how the weights on disk are quantised.
STORED_QUANTIZATION = "quantization_config"
# What decides how weights are quantised while they are loaded.
REPEATED = (
    "load_in_4bit", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype",
    "llm_int8_skip_modules",
)  # fmt: skip
# How many weights in a row share a scale.
BLOCK = 64


def quantization_settings(
    section: ModelSection, plain: Any, whole: Sequence[str]
) -> dict[str, Any]:
    """What an artifact stores of its quantisation; `whole` names modules that keep their precision.

    The keys are BitsAndBytesConfig's, and the preparation that PEFT does on top, by its name, which
    must be repeated for the same logits. `plain` is the model's skeleton. UsageError where none of
    its layers can be quantised.
    """
    whole = [*whole, *_without_whole_blocks(plain)]
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": section.bnb_4bit_quant_type,
        "bnb_4bit_use_double_quant": section.bnb_4bit_use_double_quant,
        "bnb_4bit_compute_dtype": section.bnb_4bit_compute_dtype,
        "llm_int8_skip_modules": sorted(set(whole)),
        "prepare_model_for_kbit_training": True,
    }


def _without_whole_blocks(plain: Any) -> list[str]:
    """Layers whose rows are no multiple of a block.

    bitsandbytes' kernel for CPUs with AVX-512 multiplies them by another block's scale when it
    dequantises (0.50.2: weights 20 to 50% off, against 9% by the rounding itself).
    """
    widths = {name: module.in_features if isinstance(module, nn.Linear) else module.weight.shape[0]
              for name, module in plain.named_modules()
              if isinstance(module, nn.Linear | Conv1D)
              and name.startswith(f"{plain.base_model_prefix}.")}  # fmt: skip
    odd = [name for name, width in widths.items() if width % BLOCK]
    if len(odd) == len(widths):
        raise UsageError(
            f"model.load_in_4bit: no layer of this {plain.config.model_type} model has a width "
            f"that is a multiple of {BLOCK}, which 4 bits need; leave it out."
        )
    return odd


def loading_arguments(settings: dict[str, Any] | None, config: Any) -> dict[str, Any]:
    """What `from_pretrained` needs to quantise while it loads, or for weights that lie quantised.

    UsageError without bitsandbytes.
    """
    stored = getattr(config, STORED_QUANTIZATION, None)
    if stored is not None and method_of(stored) != "bitsandbytes":
        return {}
    if settings is None and stored is None:
        return {}
    from transformers import BitsAndBytesConfig

    try:
        import bitsandbytes
    except ImportError:
        raise UsageError(
            "model.load_in_4bit: QLoRA needs bitsandbytes; run pip install -c constraints.txt "
            "-e '.[quantization]'."
        ) from None
    from textassay.models.peft_library import show_bitsandbytes

    show_bitsandbytes(bitsandbytes)
    if settings is None or stored is not None:
        return {"device_map": "cpu"}
    library = {k: v for k, v in settings.items() if k != "prepare_model_for_kbit_training"}
    return {"quantization_config": BitsAndBytesConfig(**library), "device_map": "cpu"}


def quantization_beside(config: Any, base: Mapping[str, Any]) -> None:
    """Say in a classifier's config how its base lies on disk, by the content of the base's config.

    PEFT's users save the config that they trained with: where the base was put into 4 bits while it
    was loaded, the weights on disk are not, and have to be again.
    """
    stored = base.get(STORED_QUANTIZATION)
    trained = getattr(config, STORED_QUANTIZATION, None)
    if stored is not None:
        setattr(config, STORED_QUANTIZATION, stored)
    elif trained is not None:
        delattr(config, STORED_QUANTIZATION)
        content = trained if isinstance(trained, dict) else trained.to_dict()
        if not content.get("load_in_4bit"):
            raise UsageError(
                f"the adapter was trained on a base quantised by {content.get('quant_method')} "
                "while it was loaded, and only 4 bits by bitsandbytes can be repeated here."
            )
        kept = {key: content[key] for key in REPEATED if content.get(key) is not None}
        settings = {**(getattr(config, SETTINGS_KEY, None) or {}), "quantization": kept}
        setattr(config, SETTINGS_KEY, settings)


def prepare_stored(model: Any) -> None:
    """Make a model that lies on disk in 4 bits compute in the same way on every CPU.

    bitsandbytes would repack the weights for a kernel of its own, whose logits differ, and which
    fails for layers that are narrower than a block.
    """
    from bitsandbytes.nn.modules import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def prepare_quantized(model: Any) -> None:
    """Make a model that was just quantised trainable and repeatable, in place; the same at reload.

    Everything that is not quantised is kept in fp32 (PEFT's own preparation). bitsandbytes would
    also repack the weights for a faster kernel at the first evaluation on a CPU: that kernel has no
    backward, so training would go on without gradients for everything below, and its logits differ.
    """
    from bitsandbytes.nn.modules import Linear4bit

    from textassay.models.peft_library import peft

    peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    backbone = f"{model.base_model_prefix}."
    for name, module in model.named_modules():
        if not isinstance(module, Linear4bit):
            continue
        if not name.startswith(backbone):
            raise TextassayError(f"{name} was quantised, which a classifier's head must never be.")
        module.support_avx512bf16_for_cpu = False
    # A config that says so would be taken for that of a checkpoint in 4 bits.
    del model.config.quantization_config


def dequantized(model: Any, plain: Any) -> Any:
    """The model with every weight in fp32 again, its layers of the kinds that `plain` has.

    `plain` is its skeleton: GPT-2 keeps its weights transposed, which bitsandbytes does not give
    back.
    """
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # it tells which type of numbers comes out
    try:
        model = model.dequantize().float()
    finally:
        transformers.logging.set_verbosity(before)
    model.is_loaded_in_4bit = False  # the library forgets to say so
    # How packed weights on disk became layers, which saving would turn back.
    from_packed = getattr(model, "_weight_conversions", None)
    if from_packed:
        model._weight_conversions = [
            one for one in from_packed if "4bit" not in str(getattr(one, "operations", "")).lower()
        ]
    for name, module in plain.named_modules():
        linear = model.get_submodule(name)
        if isinstance(module, Conv1D) and isinstance(linear, nn.Linear):
            turned = Conv1D(linear.out_features, linear.in_features)
            turned.weight = nn.Parameter(linear.weight.T.contiguous(), requires_grad=False)
            turned.bias = linear.bias
            model.set_submodule(name, turned)
    return model


def method_of(stored: Any) -> str:
    """Which library quantised the weights on disk, by the config's entry."""
    content = stored if isinstance(stored, dict) else stored.to_dict()
    method = content.get("quant_method", "bitsandbytes")
    return str(getattr(method, "value", method))


def is_quantized(model: Any) -> bool:
    """Whether the model's base is in 4 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False))
