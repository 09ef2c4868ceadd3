"""How an injector calls a network."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gradloom.injectors._precision import in_full
from gradloom.parts import widen


def call(network: nn.Module, method: str | None, names: Any, values: Any, constants: Mapping[str, Any]) -> Any:
    """Call a network, or one of its methods, with the values of an option: one for each name of a list."""
    inputs = values if isinstance(names, list | tuple) else (values,)
    function = network if method is None else getattr(network, method)
    return function(*inputs, **constants)


def call_in_full(network: nn.Module, method: str | None, names: Any, values: Any, constants: Mapping[str, Any]) -> Any:
    """Call a network as `call` does, without half precision, and with inputs that are not in it."""
    devices = (parameter.device for parameter in network.parameters())
    with in_full(next(devices, torch.device("cpu"))):
        return call(network, method, names, _widened(values), constants)


def _widened(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(map(_widened, value))
    return widen(value) if isinstance(value, Tensor) else value
