"""Batches in an order that follows from the seed alone, each sample drawn under its own random numbers.

So a run may stop after any batch and go on at the next, whatever the number of workers: the order of an epoch follows
from (seed, epoch), and what is random about a sample from (seed, epoch, index).
"""

import random
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from gradloom.errors import RunError
from gradloom.plan import plan as planned
from gradloom.plan.plan import Plan

Place = tuple[int, int]
"""A sample's epoch, and its index in the dataset."""


class Seeded(Dataset[Any]):
    """A dataset whose random choices follow from the seed, the epoch and the index."""

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, place: Place) -> Any:
        return self.__getitems__([place])[0]

    def __getitems__(self, places: list[Place]) -> list[Any]:
        """The samples of a batch; the loader asks for them together, since to put random numbers aside takes time."""
        with _random_numbers_put_aside():
            return [self._draw(epoch, index) for epoch, index in places]

    def _draw(self, epoch: int, index: int) -> Any:
        number = mix(self.seed, epoch, index)
        random.seed(number)
        np.random.seed(number % 2**32)
        torch.default_generator.manual_seed(number)
        return self.dataset[index]


@contextmanager
def _random_numbers_put_aside() -> Iterator[None]:
    """Leave the random numbers of Python, NumPy and torch as they were."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def mix(*numbers: int) -> int:
    """Turn several numbers into one of 63 bits that looks random."""
    digest = blake2b(",".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Order(Sampler[list[Place]]):
    """Batches of shuffled epochs, one after the other, without the incomplete last batch of each."""

    def __init__(self, length: int, batch_size: int, seed: int, first: int, last: int) -> None:
        self.length, self.batch_size, self.seed, self.first, self.last = length, batch_size, seed, first, last

    def __iter__(self) -> Iterator[list[Place]]:
        per_epoch = self.length // self.batch_size
        order, shuffled = torch.empty(0), -1
        for batch in range(self.first, self.last):
            epoch, place = divmod(batch, per_epoch)
            if epoch != shuffled:
                generator = torch.Generator().manual_seed(mix(self.seed, epoch))
                order, shuffled = torch.randperm(self.length, generator=generator), epoch
            chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
            yield [(epoch, index) for index in chosen.tolist()]

    def __len__(self) -> int:
        return self.last - self.first


def build_dataset(dataset: planned.Dataset) -> Dataset[Any]:
    """Make a dataset; what is wrong with its files is said with its place in the options."""
    try:
        made = cast(Dataset[Any], dataset.recipe.build())
        length = len(made)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise RunError(dataset.recipe.node.fault(f"{dataset.mode} cannot be built: {error}")) from error
    except RunError as error:
        raise RunError(dataset.recipe.node.fault(str(error))) from error
    if length == 0:
        raise RunError(dataset.recipe.node.fault(f"{dataset.mode} holds no sample"))
    return made


def iterations_in_epoch(plan: Plan) -> int:
    """How many whole batches the training data has."""
    training = _training(plan)
    length = len(build_dataset(training))  # type: ignore[arg-type]
    return _whole_batches(training, length)


def _training(plan: Plan) -> planned.Dataset:
    if "train" not in plan.datasets:
        raise RunError(f"{plan.document.file}: there is no dataset to train on; add datasets.train")
    return plan.datasets["train"]


def _whole_batches(dataset: planned.Dataset, length: int) -> int:
    if length < dataset.batch_size:
        message = f"a batch of {dataset.batch_size} needs as many samples, but there are {length}; lower batch_size"
        raise RunError(dataset.recipe.node.fault(message))
    return length // dataset.batch_size


def training_batches(plan: Plan, first: int, device: torch.device) -> tuple[DataLoader[Any], int]:
    """A loader of the batches from iteration `first` to the run's last, and the iterations in an epoch."""
    training = _training(plan)
    dataset = build_dataset(training)
    length = len(dataset)  # type: ignore[arg-type]
    per_epoch = _whole_batches(training, length)
    seed = plan.sections.train.manual_seed
    order = Order(length, training.batch_size, seed, first, max(first, plan.sections.train.niter))
    loader: DataLoader[Any] = DataLoader(
        Seeded(dataset, seed),
        batch_sampler=order,
        num_workers=training.workers,
        pin_memory=training.pin_memory and device.type == "cuda",
        worker_init_fn=_ignore_interrupts,
        generator=_aside(),
    )
    return loader, per_epoch


def measuring_batches(
    dataset: Dataset[Any], batch_size: int, samples: int | None, seed: int
) -> Iterator[Mapping[str, Any]]:
    """Batches of a dataset in its own order, going round it until there are `samples`."""
    length = len(dataset)  # type: ignore[arg-type]
    places = [divmod(number, length) for number in range(samples or length)]
    batches = [places[start : start + batch_size] for start in range(0, len(places), batch_size)]
    yield from DataLoader(Seeded(dataset, seed), batch_sampler=batches, generator=_aside())


def _ignore_interrupts(worker: int) -> None:
    """Leave Ctrl-C, which a terminal sends to workers too, to the process that saves."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _aside() -> torch.Generator:
    """Random numbers for a loader to seed its workers with, so that it takes none of the run's."""
    return torch.Generator()
