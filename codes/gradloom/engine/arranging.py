"""Arrange a batch as `train` says: sorted, in micro-batches, each as long as its longest sample."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gradloom.config.sections import Train
from gradloom.engine.batches import Micro
from gradloom.engine.sharing import Sharing
from gradloom.errors import RunError


def arranged(
    batch: Mapping[str, Any], keys: Sequence[str], iteration: int, train: Train, otherwise: int, sharing: Sharing
) -> list[Micro]:
    """Cut what an iteration needs of a batch into micro-batches, `otherwise` so many.

    Where each micro-batch is cut to its length, the host waits for lengths that are on a GPU.
    """
    if train.sort_key:
        batch = _sorted(batch, train.sort_key)
    lengths = [f"{key}_lengths" for key in keys if f"{key}_lengths" in batch] if train.auto_collate else []
    micros = sharing.split(batch, [*dict.fromkeys((*keys, *lengths))], train.micro_batches(iteration, otherwise))
    for name in lengths:
        for micro in micros:
            _cut(micro.state, name.removesuffix("_lengths"), name)
    for name in {*lengths} - {*keys}:
        for micro in micros:
            del micro.state[name]
    return micros


def _sorted(batch: Mapping[str, Any], by: str) -> dict[str, Any]:
    """The samples in the order of a key's numbers, the highest first; those alike stay in their order."""
    numbers = batch.get(by)
    if not isinstance(numbers, Tensor) or numbers.dim() != 1:
        found = (
            f"has the shape {tuple(numbers.shape)}" if isinstance(numbers, Tensor) else f"is {type(numbers).__name__}"
        )
        raise RunError(f"train.sort_key: {by!r} {found}; expected one number a sample, in a tensor")
    order, size = torch.argsort(numbers, descending=True, stable=True), len(numbers)
    return {key: _taken(value, order, size) for key, value in batch.items()}


def _taken(value: Any, order: Tensor, size: int) -> Any:
    """The entries of a tensor or list, one a sample, in an order; anything else as it is."""
    if isinstance(value, Tensor) and value.dim() and len(value) == size:
        return value[order.to(value.device)]
    if isinstance(value, list) and len(value) == size:
        return [value[place] for place in order.tolist()]
    return value


def _cut(state: dict[str, Any], key: str, lengths: str) -> None:
    """Cut a key's last dimension to its greatest length."""
    value = state[key]
    if isinstance(value, Tensor) and value.dim() > 1:
        state[key] = value[..., : int(state[lengths].max())]
