"""Datasets as a run uses them: opened, cut into batches, fetched by workers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import active_children
from typing import Any, cast, overload

import torch
from torch.utils.data import DataLoader, Dataset

from gradloom.engine.data.epochs import batches_in_epoch, misfit
from gradloom.engine.data.order import Once, Order, Place, Position, seed_of
from gradloom.engine.data.rejects import Bad, describe, name_of
from gradloom.engine.data.samples import Portion, Seeded
from gradloom.engine.data.workers import start_worker, watched
from gradloom.errors import RunError
from gradloom.plan import plan as planned
from gradloom.plan.plan import Plan


@dataclass(frozen=True)
class Fetched:
    """A batch of this process, with what is to be known of it."""

    batch: Mapping[str, Any]  # empty where bad samples left it so, which `Rejects.note` refuses
    after: Position  # where the run stands once this batch is used
    names: Sequence[str]  # of its samples, such as "epoch 3, sample 17 (/data/cat.png)"; made when looked at
    bad: tuple[Bad, ...]  # what could not be used for it
    weight: float = 1.0  # its samples, by how many an even share of all processes' samples would be
    replaced: frozenset[int] = frozenset()  # places in the batch at which others stand in for bad samples


class Names(Sequence[str]):
    """What messages call the samples of a batch, asked of the dataset only when somebody looks."""

    def __init__(self, dataset: Dataset[Any], places: Sequence[Place], stand_ins: Mapping[int, int]) -> None:
        self._dataset, self._places, self._stand_ins = dataset, places, stand_ins

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[str]: ...
    def __getitem__(self, number: int | slice) -> str | Sequence[str]:
        if isinstance(number, slice):
            return [self[one] for one in range(len(self))[number]]
        number = range(len(self))[number]
        epoch, index = self._places[number]
        if number not in self._stand_ins:
            return f"epoch {epoch}, {name_of(self._dataset, index)}"
        return f"epoch {epoch}, {name_of(self._dataset, self._stand_ins[number])} instead of sample {index}"


class Feed:
    """The batches of a run in their order; workers live as long as somebody iterates."""

    def __init__(self, planned_as: planned.Dataset, order: Order | Once, loader: DataLoader[Portion]) -> None:
        self._planned, self._order, self._loader = planned_as, order, loader

    def __iter__(self) -> Iterator[Fetched]:
        dataset = cast(Seeded, self._loader.dataset).dataset
        portions = iter(self._loader)
        with watched(self._planned, active_children()):
            for (places, size, after), portion in zip(self._order.steps(), portions, strict=True):
                names, weight = Names(dataset, places, portion.stand_ins), len(places) * self._order.processes / size
                yield Fetched(portion.batch, after, names, portion.bad, weight, frozenset(portion.stand_ins))


def open_dataset(dataset: planned.Dataset) -> Dataset[Any]:
    """Make a dataset; what is wrong with its files is said with its place in the options.

    Raises:
        RunError: when it cannot be made, or holds nothing.
    """
    fault = dataset.recipe.node.fault
    try:
        made = cast(Dataset[Any], dataset.recipe.build())
        length = len(made)  # type: ignore[arg-type]
    except RunError as error:
        raise RunError(fault(str(error))) from error
    except ValueError as error:
        raise RunError(fault(f"{dataset.mode} cannot be built: {error}")) from error
    except Exception as error:
        words = describe(error, dataset.recipe.make.__module__)
        raise RunError(fault(f"{dataset.mode} cannot be built: {words}")) from error
    if length == 0:
        raise RunError(fault(f"{dataset.mode} holds no sample"))
    return made


def iterations_in_epoch(plan: Plan, processes: int) -> int:
    """How many batches the training data has.

    Raises:
        RunError: when it cannot be cut into batches, or these into shares.
    """
    training = training_data(plan)
    return _iterations(training, len(open_dataset(training)), processes)  # type: ignore[arg-type]


def _iterations(dataset: planned.Dataset, length: int, processes: int) -> int:
    if fault := misfit(dataset, length, processes):
        raise RunError(fault)
    return batches_in_epoch(dataset, length, processes)


def training_data(plan: Plan) -> planned.Dataset:
    """What the options say of the data to train on.

    Raises:
        RunError: when they say nothing.
    """
    if "train" not in plan.datasets:
        raise RunError(f"{plan.document.file}: there is no dataset to train on; add datasets.train")
    return plan.datasets["train"]


def training_batches(
    plan: Plan,
    position: Position,
    iterations: int,
    device: torch.device,
    process: int = 0,
    processes: int = 1,
    dataset: Dataset[Any] | None = None,
) -> tuple[Iterable[Fetched], int]:
    """So many batches from a position on, this process's share of each, and the iterations in an epoch.

    The position counts the samples of all processes. `dataset` is the training data if it is open already.

    Raises:
        RunError: when the data cannot be opened, or not be cut into batches or shares.
    """
    training = training_data(plan)
    dataset = open_dataset(training) if dataset is None else dataset
    length = len(dataset)  # type: ignore[arg-type]
    per_epoch = _iterations(training, length, processes)
    seed, size, left = plan.sections.train.manual_seed, training.batch(processes), max(0, iterations)
    order = Order(length, size, seed, position, left, process, processes, training.drop_last)
    loader: DataLoader[Portion] = DataLoader(
        Seeded(dataset, seed_of(seed, position.detour), training.max_bad),
        sampler=order,
        batch_size=None,  # the sampler hands out whole batches
        num_workers=training.workers,
        pin_memory=training.pin_memory and device.type == "cuda",
        worker_init_fn=start_worker,
        generator=_aside(),
    )
    return Feed(training, order, loader), per_epoch


def every_batch(plan: Plan, phase: str, dataset: Dataset[Any], device: torch.device) -> Feed:
    """All samples of a dataset once, in its own order, with what is random about them following from `eval.seed`."""
    told = plan.datasets[phase]
    order = Once(len(dataset), told.batch_size)  # type: ignore[arg-type]
    loader: DataLoader[Portion] = DataLoader(
        Seeded(dataset, plan.sections.eval.seed, told.max_bad),
        sampler=order,
        batch_size=None,
        num_workers=told.workers,
        pin_memory=told.pin_memory and device.type == "cuda",
        worker_init_fn=start_worker,
        generator=_aside(),
    )
    return Feed(told, order, loader)


class Validation:
    """The batches of a dataset in its own order, going round it until there are `samples`, made when asked for."""

    def __init__(self, dataset: Dataset[Any], batch_size: int, samples: int | None, seed: int, max_bad: int) -> None:
        self._seeded, self._batch_size = Seeded(dataset, seed, max_bad), batch_size
        self._samples = range(samples or self._seeded.length)

    def __len__(self) -> int:
        return -(-len(self._samples) // self._batch_size)

    def __getitem__(self, number: int) -> Portion:
        start = range(0, len(self._samples), self._batch_size)[number]
        within = self._samples[start : start + self._batch_size]
        return self._seeded[[divmod(sample, self._seeded.length) for sample in within]]


def _aside() -> torch.Generator:
    """Random numbers for a loader to seed its workers with, so that it takes none of the run's."""
    return torch.Generator()
