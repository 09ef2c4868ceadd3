"""What the losses of single entries make of sequences (B, T, ...)."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from gradloom.errors import RunError
from gradloom.parts import Inner, Metrics, Scalar


def length(part: str, inner: Inner) -> int:
    """How many entries the sequences have that a part within another reads; they have to agree."""
    shapes = [tuple(value.shape) for value in _tensors(inner.values)]
    lengths = {shape[1] for shape in shapes if len(shape) > 1}
    if len(lengths) != 1 or any(len(shape) < 2 for shape in shapes):
        raise RunError(
            f"{part}: its part takes sequences (B, T, ...) of one length; it reads {', '.join(map(str, shapes))}"
        )
    return lengths.pop()


def of_entry(inner: Inner, index: int) -> tuple[Scalar, Metrics, *tuple[Any, ...]]:
    """The loss of one entry of the sequences, its metrics, and what it writes."""
    result = inner(lambda value: value[:, index])
    return result if isinstance(result, tuple) else (result, {})


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Inner):
        yield from _tensors(value.values)
    elif isinstance(value, Mapping | tuple | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item)
