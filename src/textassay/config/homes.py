"""Where a setting belongs: which names each section has."""

import functools

from textassay.config.aliases import ALIASES, PRECISION_FLAGS, keys_of_flags
from textassay.config.schema import METHODS, SECTIONS
from textassay.config.trainer_fields import ELSEWHERE, FIXED, LIMITS


@functools.cache
def keys_of_variables() -> frozenset[str]:
    """Every setting that a variable TEXTASSAY_SECTION__KEY can name, such as `method.r`."""
    names = {section: {*model.model_fields} for section, model in SECTIONS.items()}
    names["training"] |= {*LIMITS, *FIXED, *PRECISION_FLAGS}
    names["method"] |= {field for fields in METHODS.values() for field in fields}
    return frozenset(f"{section}.{name}" for section, inside in names.items() for name in inside)


def advise_home(name: str) -> str | None:
    """Where a name belongs that stands at the wrong place of a job; None if nobody knows it."""
    keys = sorted(key for key in keys_of_variables() if key.partition(".")[2] == name)
    if name in ELSEWHERE and name not in ALIASES:
        return f"it is set by {ELSEWHERE[name]}"
    if not keys and name in keys_of_flags():
        keys = [keys_of_flags()[name]]
    if not keys:
        return None
    section, _, right = keys[0].rpartition(".")
    others = "".join(f" or `{key.partition('.')[0]}:`" for key in keys[1:])
    if not section:
        return f"write it as `{right}:` at the top"
    renamed = "" if right == name else f" as {right}"
    return f"it belongs under `{section}:`{others}{renamed}, indented"
