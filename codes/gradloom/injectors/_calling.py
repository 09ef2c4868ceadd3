"""How an injector calls a network."""

from collections.abc import Mapping
from typing import Any

from torch import nn


def call(network: nn.Module, method: str | None, names: Any, values: Any, constants: Mapping[str, Any]) -> Any:
    """Call a network, or one of its methods, with the values of an option: one for each name of a list."""
    inputs = values if isinstance(names, list | tuple) else (values,)
    function = network if method is None else getattr(network, method)
    return function(*inputs, **constants)
