"""Tensors wherever they are in lists, tuples and mappings."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


def each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same containers with every tensor changed; what else there is stays as it is."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: each(one, change) for key, one in value.items()}
    if isinstance(value, list | tuple):
        make = getattr(type(value), "_make", type(value))  # a named tuple is made of its items otherwise
        return make(each(one, change) for one in value)
    return value


def detached(value: Any) -> Any:
    """Cut tensors from their graph."""
    return each(value, Tensor.detach)


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors, in their order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from tensors(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from tensors(one)


def num_bytes(value: Any) -> int:
    """What the tensors hold."""
    return sum(tensor.nbytes for tensor in tensors(value))
