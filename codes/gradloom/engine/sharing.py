"""How processes share an iteration: each does its part of the micro-batches, and all have the mean of the gradients.

One process does all of it alone, and asks nobody.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradloom.engine.batches import Micro, size_of, split
from gradloom.engine.world import World

_BUCKET_BYTES = 32 * 2**20


def part_of(count: int, processes: int) -> int:
    """How many of so many micro-batches each process does, rounded up."""
    return -(-count // processes)


class Sharing:
    """Weighs what each process does in an iteration by its samples.

    With `ahead`, samples are counted before anything runs, as networks need that speak with other processes in their
    forward and backward passes: the loss is weighed by `weight` then, not the gradients, and all have as many
    micro-batches. Otherwise counts travel with the gradients, and `weight` is 1.
    """

    def __init__(self, world: World, trainable: Mapping[str, Sequence[nn.Parameter]], ahead: bool) -> None:
        self.world, self.ahead = world, ahead
        self.weight = 1.0  # of this process's losses in their backward passes
        self._size = 1
        self._trainable = trainable
        self._buckets: dict[tuple[str, ...], list[list[nn.Parameter]]] = {}

    def split(self, batch: Mapping[str, Any], keys: Sequence[str], count: int) -> list[Micro]:
        """Take what an iteration needs of this process's share of a batch, of which all make `count` micro-batches."""
        self.weight, processes = 1.0, self.world.processes
        if processes > 1:
            count = part_of(count, processes)
            self._size = size_of({key: batch[key] for key in keys if key in batch} or batch)
        if processes > 1 and self.ahead:
            sizes = self.world.counts(self._size)
            self.weight, self._size = self._size * processes / sum(sizes), 1
            count = min(count, *sizes)
        return split(batch, keys, count, self.world.device)

    @torch.no_grad()
    def average(self, networks: tuple[str, ...], total: Tensor) -> Tensor:
        """Make of these networks' gradients the means over the samples of all processes, and return that of the loss.

        A parameter without a gradient counts as zero if some process has one, and else stays without.
        """
        if self.world.processes == 1:
            return total
        if networks not in self._buckets:
            parameters = dict.fromkeys(parameter for name in networks for parameter in self._trainable[name])
            self._buckets[networks] = list(buckets(parameters))
        means = [average_bucket(bucket, total, self._size, self.world) for bucket in self._buckets[networks]]
        return means[0]


def average_bucket(bucket: Sequence[nn.Parameter], total: Tensor, size: int, world: World) -> Tensor:
    """Average a bucket in one message: gradients, the loss, which gradients there are, and how many samples.

    Return the mean of the loss.
    """
    wide = torch.promote_types(bucket[0].dtype, torch.float32)
    missing = [place for place, parameter in enumerate(bucket) if parameter.grad is None]
    there = total.new_ones(len(bucket) + 1, dtype=wide)
    for place in missing:
        there[place] = 0
    numbers = [_gradient(parameter).flatten().to(wide) for parameter in bucket]
    flat = torch.cat([*numbers, total.reshape(1).to(wide), there]).mul_(size)
    world.add(flat)
    sizes = [*(parameter.numel() for parameter in bucket), 1, len(bucket), 1]
    *means, loss, there, _ = torch.split(flat.div_(flat[-1].clone()), sizes)
    present = there.tolist() if missing else ()  # only then does the host have to know
    for place, (parameter, mean) in enumerate(zip(bucket, means, strict=True)):
        if parameter.grad is not None or present[place]:
            parameter.grad = _laid_out(mean, parameter)
    return loss.view_as(total).to(total.dtype)


def buckets(parameters: Iterable[nn.Parameter]) -> Iterable[list[nn.Parameter]]:
    """Put parameters of one type together, up to a size, whatever gradients they have: all processes do it alike."""
    kinds: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in parameters:
        kinds.setdefault(parameter.dtype, []).append(parameter)
    for alike in kinds.values():
        bucket: list[nn.Parameter] = []
        size = 0
        for parameter in alike:
            if bucket and size > _BUCKET_BYTES:
                yield bucket
                bucket, size = [], 0
            bucket.append(parameter)
            size += parameter.numel() * parameter.element_size()
        yield bucket


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _laid_out(values: Tensor, parameter: nn.Parameter) -> Tensor:
    """Numbers in the shape, type and layout of a parameter; a view of them where that is possible."""
    shaped = values.view_as(parameter).to(parameter.dtype)
    return shaped if parameter.is_contiguous() else torch.empty_like(parameter).copy_(shaped)
