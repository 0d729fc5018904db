"""The bottleneck adapter (Houlsby et al. 2019, arXiv:1902.00751) as a method of PEFT.

`register()` makes PEFT know it, so that `get_peft_model`, `save_pretrained`,
`PeftModel.from_pretrained`, several named adapters and switching them off work as for any method.
"""

import warnings
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from textassay.errors import UsageError
from textassay.models.peft_library import peft

PeftType = peft.utils.PeftType

NAME = "bottleneck"
# Blocks of BERT and kin (encoder.layer.3), DistilBERT (transformer.layer.3), GPT-2 (h.3), and
# Llama, Qwen and kin (layers.3).
BLOCKS = r"(.*\.)?(layer|layers|h)\.\d+"
DOWN_STD = 0.01
UP_STD = 1e-4


@dataclass
class BottleneckConfig(peft.PeftConfig):
    """h + up(ReLU(down(h))) behind each target module, h being its output."""

    target_modules: list[str] | str | None = field(
        default=None,
        metadata={"help": "modules, or a pattern for them; by default every transformer block"},
    )
    bottleneck_size: int = field(default=64, metadata={"help": "width between down and up"})
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "modules trained and saved whole beside the adapter"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType.BOTTLENECK  # type: ignore[attr-defined]
        if self.bottleneck_size < 1:
            raise ValueError(f"bottleneck_size is {self.bottleneck_size}; it is at least 1")


class BottleneckLayer(nn.Module, peft.tuners.tuners_utils.BaseTunerLayer):
    """A block with adapters behind it. What is asked of the block is answered by the block."""

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")

    def __init__(self, base_layer: nn.Module, width: int) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.width = width
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self._disable_adapters = False
        self.merged_adapters: list[str] = []

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)

    def add(self, adapter_name: str, config: BottleneckConfig) -> None:
        """A new adapter: down ~ N(0, 0.01), up near 0, biases 0, so that it starts as h + ~0."""
        down = nn.Linear(self.width, config.bottleneck_size)
        up = nn.Linear(config.bottleneck_size, self.width)
        nn.init.normal_(down.weight, std=DOWN_STD)
        nn.init.normal_(up.weight, std=UP_STD)
        nn.init.zeros_(down.bias)
        nn.init.zeros_(up.bias)
        device = next(self.base_layer.parameters()).device
        self.bottleneck_down[adapter_name] = down.to(device)
        self.bottleneck_up[adapter_name] = up.to(device)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The block's output with each active adapter's part added; hidden states come first."""
        output = self.base_layer(*args, **kwargs)
        if self.disable_adapters:
            return output
        hidden = output[0] if isinstance(output, tuple) else output
        if not isinstance(hidden, torch.Tensor) or hidden.shape[-1] != self.width:
            raise UsageError(
                f"method.target_modules: {type(self.base_layer).__name__} does not put out hidden "
                f"states of width {self.width}, which a bottleneck goes behind; name blocks or "
                "linear layers, or leave target_modules out."
            )
        for name in self.active_adapters:
            if name in self.bottleneck_down:
                hidden = hidden + self._part(name, hidden)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    def _part(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        down, up = self.bottleneck_down[name], self.bottleneck_up[name]
        inner = torch.relu(down(self._cast_input_dtype(hidden, down.weight.dtype)))
        part: torch.Tensor = up(inner).to(hidden.dtype)
        return part

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """A bottleneck is no linear map: ValueError."""
        raise ValueError("a bottleneck adapter cannot be merged into the weights")

    def unmerge(self) -> None:
        """Nothing was ever merged: ValueError."""
        raise ValueError("a bottleneck adapter is never merged")


class BottleneckModel(peft.tuners.tuners_utils.BaseTuner):
    """Puts a BottleneckLayer around each target module."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping: ClassVar[dict[str, Any]] = {}

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        if peft_config.target_modules is None:
            peft_config.target_modules = BLOCKS
        return peft_config

    def _create_and_replace(
        self, peft_config: Any, adapter_name: str, target: Any, target_name: str, parent: Any,
        current_key: str, **_: Any,
    ) -> None:  # fmt: skip
        if not isinstance(target, BottleneckLayer):
            wrapped = BottleneckLayer(target, _width_of(target, self.model.config))
            setattr(parent, target_name, wrapped)
            target = wrapped
        target.add(adapter_name, peft_config)

    def _check_merge_allowed(self) -> None:
        raise ValueError("it is no linear map")


def _width_of(module: nn.Module, config: Any) -> int:
    """The width of what a linear layer puts out, GPT-2's included; else that of a block."""
    of_layer = getattr(module, "out_features", getattr(module, "nf", None))
    return int(of_layer or config.hidden_size)


def register() -> None:
    """Make PEFT know the bottleneck adapter; a second call does nothing."""
    if NAME.upper() in PeftType.__members__:
        return
    _add_member(PeftType, NAME.upper())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft.utils.register_peft_method(
            name=NAME, config_cls=BottleneckConfig, model_cls=BottleneckModel
        )


def _add_member(enum: Any, name: str) -> None:
    """PEFT's list of methods is a closed enum, and its registration asks for a member of it."""
    member = str.__new__(enum, name)
    member._name_, member._value_ = name, name
    setattr(enum, name, member)
    enum._member_names_.append(name)
    enum._member_map_[name] = member
    enum._value2member_map_[name] = member
