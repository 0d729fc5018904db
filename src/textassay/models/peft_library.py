"""PEFT, imported without bitsandbytes until a base in 4 bits is loaded.

PEFT imports bitsandbytes wherever it is installed, and bitsandbytes imports torch's compiler: more
time than all of PEFT and transformers take. Import `peft` from here and from nowhere else.
"""

import sys
from types import ModuleType
from typing import Any

from transformers import dynamic_module_utils
from transformers.utils import is_bitsandbytes_available

BITSANDBYTES = "bitsandbytes"


def _import_peft() -> Any:
    """PEFT, which finds bitsandbytes only if this process has imported it already."""
    hidden = "peft" not in sys.modules and BITSANDBYTES not in sys.modules
    if hidden:
        is_bitsandbytes_available()  # transformers keeps the first answer; it must be the true one
        sys.modules[BITSANDBYTES] = None  # type: ignore[assignment]  # "not installed"
    try:
        import peft

        # Both keep their first answer until `show_bitsandbytes`.
        peft.import_utils.is_bnb_available()
        peft.import_utils.is_bnb_4bit_available()
    finally:
        if hidden:
            del sys.modules[BITSANDBYTES]
    return peft


def _never_ask() -> None:
    """Refuse code that comes with a model or tokenizer which an adapter's config names.

    PEFT does not say so for those that it loads itself, and transformers would ask at the terminal
    whether to run it.
    """
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0


def show_bitsandbytes(bitsandbytes: ModuleType) -> None:
    """Let PEFT know that there are layers in 4 bits. Call it before such a base is loaded."""
    peft.helpers.bnb = bitsandbytes
    peft.import_utils.is_bnb_available.cache_clear()
    peft.import_utils.is_bnb_4bit_available.cache_clear()


_never_ask()
peft = _import_peft()
