"""The PEFT tuner behind the `adapter` method: small networks with a bottleneck, beside or after a layer.

PEFT has none, so byrote brings one and registers it, which makes saved adapters ordinary PEFT folders. Whoever loads
one with plain PEFT calls `byrote.know_bottleneck()` first: importing byrote alone does not import PEFT.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NAME = "byrote_bottleneck"


def know_bottleneck() -> None:
    """Make PEFT save and load bottleneck adapters. Does nothing the second time."""
    bottleneck_config()


@functools.cache
def bottleneck_config() -> Any:
    """The configuration class of the tuner, registered with PEFT on first use."""
    from peft import PeftConfig
    from peft.utils import PeftType, register_peft_method

    @dataclass
    class BottleneckConfig(PeftConfig):  # type: ignore[misc]
        """Which modules get a network of which shape; the fields are those of byrote's `adapter` method."""

        target_modules: list[str] | str | None = field(default=None)
        exclude_modules: list[str] | str | None = field(default=None)
        bottleneck_size: int = field(default=16)
        non_linearity: str = field(default="relu")
        parallel: bool = field(default=False)
        scaling: float = field(default=1.0)
        modules_to_save: list[str] | None = field(default=None)

        def __post_init__(self) -> None:
            super().__post_init__()
            self.peft_type = getattr(PeftType, NAME.upper())

    _name_the_type()
    model = _tuner()
    register_peft_method(name=NAME, config_cls=BottleneckConfig, model_cls=model, prefix=model.prefix)
    return BottleneckConfig


def _name_the_type() -> None:
    """PEFT's list of method names is an enum, and `register_peft_method` wants ours in it."""
    from peft.utils import PeftType

    member = str.__new__(PeftType, NAME.upper())
    member._name_ = member._value_ = NAME.upper()
    type.__setattr__(PeftType, NAME.upper(), member)
    PeftType._member_names_.append(NAME.upper())
    PeftType._member_map_[NAME.upper()] = member
    PeftType._value2member_map_[NAME.upper()] = member


def _tuner() -> Any:
    """The classes that PEFT calls a layer and a model."""
    import torch
    from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
    from torch import nn

    class BottleneckLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
        """out = layer(x) + scaling * up(f(down(h))), where h is the layer's output, or its input when parallel."""

        adapter_layer_names = ("bottleneck_down", "bottleneck_up")

        def __init__(self, base_layer: nn.Module, adapter_name: str, config: Any, width: int) -> None:
            super().__init__()
            self.base_layer: Any = base_layer
            self.bottleneck_down: Any = nn.ModuleDict()
            self.bottleneck_up: Any = nn.ModuleDict()
            self.configs: dict[str, Any] = {}
            self._active_adapter = adapter_name
            self.add(adapter_name, config, width)

        def add(self, adapter_name: str, config: Any, width: int) -> None:
            """Another adapter on the same layer. `up` starts at zero, so that nothing changes at first."""
            self.configs[adapter_name] = config
            self.bottleneck_down[adapter_name] = nn.Linear(width, config.bottleneck_size)
            self.bottleneck_up[adapter_name] = nn.Linear(config.bottleneck_size, width)
            with torch.no_grad():
                for parameter in self.bottleneck_up[adapter_name].parameters():
                    parameter.zero_()
            this: Any = self  # PEFT has no types, so mypy takes its names for submodules
            this.set_adapter(this.active_adapters, inference_mode=config.inference_mode)

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            """Whatever the layer returns; of a tuple, the first is what the network adds to."""
            layer: Any = self.base_layer
            returned = layer(*args, **kwargs)
            out = returned[0] if isinstance(returned, tuple) else returned
            given = args[0] if args else kwargs["hidden_states"]
            if not self.disable_adapters:
                active: Any = self.active_adapters
                for name in active:
                    if name in self.bottleneck_down:
                        out = out + self._network(name, given if self.configs[name].parallel else out).to(out.dtype)
            return (out, *returned[1:]) if isinstance(returned, tuple) else out

        def _network(self, name: str, given: torch.Tensor) -> torch.Tensor:
            down, config = self.bottleneck_down[name], self.configs[name]
            inner = getattr(torch.nn.functional, config.non_linearity)(down(given.to(down.weight.dtype)))
            made: torch.Tensor = config.scaling * self.bottleneck_up[name](inner)
            return made

    class BottleneckModel(BaseTuner):  # type: ignore[misc]
        """A model with such layers."""

        prefix = "bottleneck_"
        tuner_layer_cls = BottleneckLayer
        target_module_mapping: dict[str, list[str]] = {}

        def _create_and_replace(
            self, config: Any, adapter_name: str, target: Any, target_name: str, parent: Any, current_key: str
        ) -> None:
            width = self.model.config.get_text_config().hidden_size
            if isinstance(target, BottleneckLayer):
                target.add(adapter_name, config, width)
                return
            layer = BottleneckLayer(target, adapter_name, config, width)
            if adapter_name not in self.active_adapters:
                layer.requires_grad_(False)
            self._replace_module(parent, target_name, layer, target)

        def _check_merge_allowed(self) -> None:
            raise ValueError("a bottleneck adapter is no change of weights, so it cannot be merged into them")

    return BottleneckModel
