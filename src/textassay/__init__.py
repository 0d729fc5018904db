"""textassay: fine-tune, evaluate and ship text classifiers, with artifacts that carry proof."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textassay.artifacts.classifier import Classifier

__version__ = "0.1.0"
__all__ = ["Classifier", "__version__"]


def __getattr__(name: str) -> Any:
    # Classifier pulls in torch, which takes seconds: nothing that only wants --help should wait.
    if name == "Classifier":
        from textassay.artifacts.classifier import Classifier

        return Classifier
    raise AttributeError(f"module 'textassay' has no attribute {name!r}")
