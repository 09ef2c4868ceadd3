"""The contract that an extension fulfils: Injector, Loss and Evaluator.

A part's annotated attributes are its options. Those annotated `Read`, `Write` or `Net` are its ports: the options
hold names of state keys and networks, and `forward` receives their values under the names of the ports. A part
never sees the state, so what it declares is all that it can touch.

    class Blend(Injector, type="blend"):
        \"\"\"Mixes two keys.\"\"\"

        first: Read
        second: Read
        out: Write
        amount: Scheduled = 0.5

        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return first.lerp(second, self.amount)
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, dataclass_transform, get_args, get_origin, get_type_hints

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset
from typing_extensions import TypeAliasType

from gradloom.config.binding import Wants
from gradloom.config.schedules import Schedule, at
from gradloom.gates import Gate
from gradloom.registry import Registry


class Port(Enum):
    """What a part does with the names at one of its options."""

    READ = "reads the state key"
    WRITE = "writes the state key"
    NET = "calls the network"


Read = Annotated[str, Port.READ, Wants("a state key")]
Write = Annotated[str, Port.WRITE, Wants("a state key")]
Net = Annotated[str, Port.NET, Wants("the name of a network")]

_Argument = TypeAliasType("_Argument", "str | int | float | bool | None | list[_Argument]")
Arguments = Annotated[_Argument, Port.READ, Wants("a state key, or a list of them and of constants")]
"""A state key, or a list of what to call a network with: keys, the word 'None', constants, lists of these."""

if TYPE_CHECKING:
    Scheduled = float
else:
    Scheduled = float | Schedule
"""A number, or a schedule such as `{linear: {from: 0, to: 1, end: 1000}}`; the part sees the iteration's value."""

TRAINED = "(the trained network)"
"""Default of a `Net` port that stands for the network that the step trains."""


def port_of(annotation: Any) -> Port | None:
    """Find the port in an annotation such as `Read`, `Read | None` or `tuple[Read, ...]`."""
    if get_origin(annotation) is Annotated:
        return next((extra for extra in annotation.__metadata__ if isinstance(extra, Port)), None)
    return next((port for inner in get_args(annotation) if (port := port_of(inner))), None)


def keys_in(names: Any) -> Iterator[str]:
    """The state keys among the names at a port: words other than 'None', at any depth."""
    if isinstance(names, str):
        yield from () if names == "None" else (names,)
    elif isinstance(names, list | tuple):
        for name in names:
            yield from keys_in(name)


@dataclass(frozen=True)
class Need:
    """A file that a part cannot do without."""

    file: Path
    missing: str  # what to say where it is not there and is not fetched
    url: str = ""  # where it is fetched from, if it may be
    size: int = 0  # bytes, about


@dataclass_transform(kw_only_default=True)
@dataclass(kw_only=True, eq=False, repr=False)
class Part(nn.Module):
    """A named, typed piece of a plan. It is cheap to make; `setup` does what is costly."""

    registry: ClassVar[Registry[Any]]
    ports: ClassVar[dict[str, Port]] = {}
    type_name: ClassVar[str] = ""

    after: Annotated[int, Ge(0)] = 0
    before: int | None = None
    every: Annotated[int, Gt(0)] = 1

    def __init_subclass__(cls, type: str | None = None) -> None:
        super().__init_subclass__()
        dataclass(kw_only=True, eq=False, repr=False)(cls)
        hints = get_type_hints(cls, include_extras=True)
        cls.ports = {field: port for field, hint in hints.items() if (port := port_of(hint))}
        if type is not None:
            _check_forward(cls)
            cls.type_name = type
            cls.registry.add(type, cls)

    def __post_init__(self) -> None:
        nn.Module.__init__(self)
        self._schedules: dict[str, Schedule] = {}
        for name, port in self.ports.items():
            if port is Port.READ and getattr(self, name) == "None":
                setattr(self, name, None)
        for field in self.options():
            if isinstance(value := getattr(self, field.name), Schedule):
                self.follow(field.name, value)
        self.check()

    def check(self) -> None:
        """Raise a `ValueError` that says what is wrong with options that only together are wrong."""

    def setup(self) -> None:
        """Build what the part owns, such as buffers, once the whole plan is known to be sound."""

    def needs(self) -> Iterable[Need]:
        """The files that `setup` reads or fetches, so that a run can say beforehand what is missing."""
        return ()

    def twice(self) -> Iterable[str]:
        """The networks whose gradients the part takes gradients of; those are not compiled."""
        return ()

    @property
    def gate(self) -> Gate:
        """The iterations in which the part takes part."""
        return Gate(self.after, self.before, self.every)

    def active(self, iteration: int) -> bool:
        """Whether the part takes part in an iteration."""
        return self.gate.open(iteration)

    def follow(self, field: str, schedule: Schedule) -> None:
        """Let a field have the value that a schedule has in each iteration."""
        self._schedules[field] = schedule

    @property
    def scheduled(self) -> bool:
        """Whether any option changes over the run."""
        return bool(self._schedules)

    def advance(self, iteration: int, iterations_per_epoch: int) -> None:
        """Give every scheduled option its value in an iteration."""
        for field, schedule in self._schedules.items():
            setattr(self, field, at(schedule, iteration, iterations_per_epoch))

    @property
    def uses_epochs(self) -> bool:
        return any(schedule.unit == "epoch" for schedule in self._schedules.values())

    @classmethod
    def options(cls) -> tuple[Field[Any], ...]:
        """The fields that options may set."""
        return fields(cls)

    def names_at(self, port: Port) -> tuple[str, ...]:
        """The names that the options put at this part's ports of one kind."""
        return tuple(key for field, kind in self.ports.items() if kind is port for key in keys_in(getattr(self, field)))

    def reads(self) -> tuple[str, ...]:
        """The state keys that the part reads."""
        return self.names_at(Port.READ)

    def writes(self) -> tuple[str, ...]:
        """The state keys that the part writes, in the order in which `forward` returns them."""
        return self.names_at(Port.WRITE)

    def networks(self) -> tuple[str, ...]:
        """The networks that the part calls."""
        return self.names_at(Port.NET)


def _check_forward(cls: type[Part]) -> None:
    """Refuse a part whose `forward` does not take exactly its Read and Net ports."""
    takes = set(inspect.signature(cls.forward).parameters) - {"self"}
    ports = {field for field, port in cls.ports.items() if port is not Port.WRITE}
    if takes != ports:
        raise TypeError(f"{cls.__name__}.forward takes {sorted(takes)}, its Read and Net ports are {sorted(ports)}")


class Injector(Part):
    """Adds to the state: `forward` returns the value of its Write port, or a tuple of theirs in order."""

    registry = Registry["Injector"]("injector", "gradloom.injectors")

    grad: bool = True  # False: runs without gradients
    no_grad: bool = False  # the same, said the other way round
    train_: bool = False  # only while training
    eval_: bool = False  # only while evaluating


class Loss(Part):
    """Scores the state: `forward` returns a scalar, or a scalar and a mapping of detached metrics.

    The scalar is added to the step's others by weight before the one backward pass.
    """

    registry = Registry["Loss"]("loss", "gradloom.losses")

    weight: Scheduled = 1.0


class Evaluator(Part):
    """Measures networks: `forward` looks at a batch, `add` takes in what it found, `compute` says what all amounts to.

    With several processes, `forward` is given a share of the batches of the validation set, and in one process `add`
    gets what all of them found, in the order of the batches. That is tensors, numbers, words, None, or tuples, lists
    and dicts of these; `forward` keeps nothing that `compute` needs. An evaluator without `add` takes batches in by
    `forward` itself; then every process shows it every batch.
    """

    registry = Registry["Evaluator"]("evaluator", "gradloom.evaluators")

    for_: Annotated[str, Wants("the name of a network")] | None = (
        None  # such as `generator.ema`: stands in for `generator` while measuring
    )
    samples: Annotated[int, Gt(0)] | None = (
        None  # how many to measure, going round if need be; None is the whole set once
    )

    @property
    def adds(self) -> bool:
        """Whether batches may be shared among processes."""
        return type(self).add is not Evaluator.add

    def reset(self) -> None:
        """Forget the batches taken in."""

    def add(self, found: Any) -> None:
        """Take in what `forward` found in a batch."""

    def compute(self) -> Mapping[str, float]:
        """Name and value of every metric."""
        raise NotImplementedError

    def images(self) -> Mapping[str, Tensor]:
        """Images to show, by name: (count, channels, height, width) in the range of `logger.visuals`."""
        return {}

    def protocol(self) -> str:
        """How the numbers came about, in a few words, for whoever compares them with others'."""
        return ""


networks = Registry[nn.Module]("network", "gradloom.networks")
datasets = Registry[Dataset[Any]]("dataset", "gradloom.datasets")
optimizers = Registry[Optimizer]("optimizer", "gradloom.optimizers")

Scalar = Tensor
"""A tensor without dimensions, of the computation's dtype."""

Metrics = dict[str, Tensor]
"""Detached scalars, by name, that a loss reports beside its value."""


def widen(value: Tensor) -> Tensor:
    """Bring half precision to float32, in which losses are computed; leave anything wider as it is."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
