"""Which samples come when: it follows from the seed alone, so that a run can go on at any of them.

The order of an epoch follows from (seed, epoch), and what is random about a sample from (seed, epoch, index).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b

import torch
from torch import Tensor
from torch.utils.data import Sampler

from gradloom.engine.data.epochs import share_of

Place = tuple[int, int]
"""A sample's epoch, and its index in the dataset."""


@dataclass(frozen=True)
class Position:
    """Where a run stands in its data: the epoch, how many of its samples are used, and which order they come in."""

    epoch: int = 0
    offset: int = 0  # samples of the epoch used so far, over all processes
    detour: int = 0  # 0 at first; a run that returns to a checkpoint takes the next, and so sees another order


def position_after(iterations: int, per_epoch: int, batch_size: int) -> Position:
    """Where a run stands after so many iterations, if each epoch had so many and each batch one size."""
    epoch, batch = divmod(iterations, per_epoch)
    return Position(epoch, batch * batch_size)


def mix(*numbers: int) -> int:
    """Turn several numbers into one of 63 bits that looks random."""
    digest = blake2b(",".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_of(seed: int, detour: int) -> int:
    """The seed of a detour's order and draws: at first the run's own."""
    return mix(seed, detour) if detour else seed


class Once(Sampler[list[Place]]):
    """The batches of one pass over a dataset, in its own order, the incomplete last one too."""

    processes = 1

    def __init__(self, length: int, batch_size: int) -> None:
        self.length, self.batch_size = length, batch_size

    def __len__(self) -> int:
        return -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[list[Place]]:
        return (places for places, _, _ in self.steps())

    def steps(self) -> Iterator[tuple[list[Place], int, Position]]:
        """Each batch, how many samples it has, and where the pass stands once it is used."""
        for start in range(0, self.length, self.batch_size):
            places = [(0, index) for index in range(self.length)[start : start + self.batch_size]]
            yield places, len(places), Position(0, start + len(places))


class Order(Sampler[list[Place]]):
    """One process's shares of the batches of shuffled epochs; with `drop_last` without the incomplete last of each.

    The batches are cut alike whatever the number of processes; the first process takes the first samples of each.
    A last batch of fewer samples than processes, which a resumed run of another batch size may meet, is left out.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        start: Position,
        iterations: int,
        process: int = 0,
        processes: int = 1,
        drop_last: bool = True,
    ) -> None:
        self.length, self.batch_size, self.seed = length, batch_size, seed_of(seed, start.detour)
        self.start, self.iterations = start, iterations
        self.process, self.processes = process, processes
        self.least = batch_size if drop_last else processes  # samples of a batch

    def __len__(self) -> int:
        return self.iterations

    def __iter__(self) -> Iterator[list[Place]]:
        return (places for places, _, _ in self.steps())

    def steps(self) -> Iterator[tuple[list[Place], int, Position]]:
        """The share of each batch, how many samples the batch has, and where the run stands once it is used."""
        at, order, shuffled = self.start, torch.empty(0), -1
        for _ in range(self.iterations):
            if self.length - at.offset < self.least:
                at = replace(at, epoch=at.epoch + 1, offset=0)
            if at.epoch != shuffled:
                order, shuffled = self._shuffle(at.epoch), at.epoch
            size = min(self.batch_size, self.length - at.offset)
            share = share_of(size, self.process, self.processes)
            chosen = order[at.offset + share.start : at.offset + share.stop]
            places = [(at.epoch, index) for index in chosen.tolist()]
            at = replace(at, offset=at.offset + size)
            yield places, size, at

    def _shuffle(self, epoch: int) -> Tensor:
        return torch.randperm(self.length, generator=torch.Generator().manual_seed(mix(self.seed, epoch)))
