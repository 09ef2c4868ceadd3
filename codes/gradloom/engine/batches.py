"""Cut a batch into micro-batches on the device."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gradloom.errors import RunError


@dataclass
class Micro:
    """A micro-batch: its state, and its share of the batch's samples."""

    state: dict[str, Any]
    share: float


def split(batch: Mapping[str, Any], keys: Iterable[str], count: int, device: torch.device) -> list[Micro]:
    """Take what an iteration needs of a batch, cut into `count` parts as even as can be, fewer when it is smaller."""
    missing = [key for key in keys if key not in batch]
    if missing:
        raise RunError(f"the batch has no {', '.join(map(repr, missing))}; it has {', '.join(map(repr, batch))}")
    whole = {key: to_device(batch[key], device) for key in keys}
    if count == 1:
        return [Micro(whole, 1.0)]
    size = size_of(whole or batch)
    count = min(count, size)
    ends = [size // count * place + min(place, size % count) for place in range(count + 1)]
    return [
        Micro({key: _cut(value, size, slice(*piece)) for key, value in whole.items()}, (piece[1] - piece[0]) / size)
        for piece in pairwise(ends)
    ]


def size_of(batch: Mapping[str, Any]) -> int:
    """How many samples a batch has: the length of its tensors."""
    sizes = {key: len(value) for key, value in batch.items() if isinstance(value, Tensor) and value.dim()}
    if len(set(sizes.values())) != 1:
        raise RunError(f"the tensors of a batch need one length, got {sizes or 'none'}")
    return next(iter(sizes.values()))


def to_device(value: Any, device: torch.device) -> Any:
    """Send a tensor to a device without waiting for it; leave anything else."""
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value


def _cut(value: Any, size: int, piece: slice) -> Any:
    """Take a piece of a tensor or list that has one entry a sample; anything else goes to every piece."""
    if (isinstance(value, Tensor) and value.dim()) or (isinstance(value, list) and len(value) == size):
        return value[piece]
    return value
