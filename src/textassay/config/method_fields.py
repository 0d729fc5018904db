"""Values of PEFT's fields that PEFT takes, and that train nothing, or fail in the training."""

from typing import Any

from textassay.config.limits import BELOW_1, FROM_1, POSITIVE, Limit, refuse_outside

# What is computed of rows before the training, which nothing here does: PEFT leaves noise instead.
OF_DATA = ("eva", "corda", "lora_ga")
LIMITS = {
    "num_virtual_tokens": FROM_1,
    "num_frozen_tokens": FROM_1,
    "bottleneck_size": FROM_1,
    "xlora_dropout_p": BELOW_1,
}
SCALES = ("alpha", "lora_alpha", "psoft_alpha", "randlora_alpha", "shadow_alpha", "scaling")
OF_VIRTUAL_TOKENS = ("prompt_tuning", "prefix_tuning", "p_tuning", "multitask_prompt_tuning")
PATTERNS = {"rank_pattern": FROM_1, "alpha_pattern": POSITIVE}


def refuse_method_fields(method: str, fields: dict[str, Any]) -> None:
    """ValueError, which begins with the field, for a value with which the method cannot train."""
    for key, value in fields.items():
        if value is not None and (limit := _limit(key)):
            refuse_outside(key, value, limit)
        for pattern, each in (value or {}).items() if key in PATTERNS else ():
            refuse_outside(f"{key}.{pattern}", each, PATTERNS[key])
    if fields.get("init_lora_weights") in OF_DATA:
        raise ValueError(
            f"init_lora_weights {fields['init_lora_weights']} is computed of rows before the "
            "training, which is not done here; choose another"
        )
    if fields.get("alora_invocation_tokens"):
        raise ValueError(
            "alora_invocation_tokens switch an adapter on in what is generated, and a classifier "
            "generates nothing; leave them out"
        )
    if method in OF_VIRTUAL_TOKENS and not fields.get("num_virtual_tokens"):
        raise ValueError(f"num_virtual_tokens is needed by {method}; 20, for instance")


def _limit(key: str) -> Limit | None:
    if key.endswith("dropout"):
        return BELOW_1
    return POSITIVE if key in SCALES else LIMITS.get(key)
