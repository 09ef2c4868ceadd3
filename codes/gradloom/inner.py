"""How a part calls the parts that are options of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from gradloom.part import Part


@dataclass(frozen=True)
class Inner:
    """A part within a part, and the values at its ports; calling it calls the part.

    It gives the part within what stands in the state, or what `change` makes of each tensor that it reads: of
    `inner(lambda value: value[:, 0])` a part within sees the first of a sequence of images alone.
    """

    part: Part
    networks: Mapping[str, Any]
    values: Mapping[str, Any]  # at its Read ports, by the ports' names, and the parts within it

    def __call__(self, change: Callable[[Tensor], Tensor] = lambda value: value) -> Any:
        """Return what the part makes of the values."""
        return self.part(**self.networks, **self.changed(change).values)

    def changed(self, change: Callable[[Tensor], Tensor]) -> "Inner":
        """The same part with each tensor that it reads changed."""
        return replace(self, values={name: _changed(value, change) for name, value in self.values.items()})


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change each tensor among the values of a port."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        return tuple(_changed(item, change) for item in value)
    if isinstance(value, Mapping):
        return {name: _changed(item, change) for name, item in value.items()}
    if isinstance(value, Inner):
        return value.changed(change)
    return value
