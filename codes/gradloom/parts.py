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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, fields, replace
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    Self,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from gradloom.choices import Choice, DatasetChoice, NetworkChoice, Shown, datasets, keys_of, networks, optimizers
from gradloom.company import Adopts, Company, InCompany
from gradloom.config.binding import FromNode, Wants, make
from gradloom.config.node import Node
from gradloom.config.schedules import Schedule, at
from gradloom.errors import Fault
from gradloom.gates import Gate
from gradloom.ports import TRAINED, Arguments, Net, Port, Read, Scheduled, Write, keys_in
from gradloom.registry import Registry

__all__ = [
    "TRAINED", "Adopts", "Arguments", "Choice", "Company", "DatasetChoice", "Evaluator", "InCompany", "Injector",
    "Inner", "Loss", "Metrics", "Need", "Net", "NetworkChoice", "Part", "Port", "Read", "Scalar", "Scheduled", "Shown",
    "Write", "datasets", "keys_in", "keys_of", "networks", "optimizers", "port_of", "widen",
]  # fmt: skip


def port_of(annotation: Any) -> Port | None:
    """Find the port in an annotation such as `Read`, `Read | None`, `tuple[Read, ...]`, `Loss` or `dict[str, Loss]`."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return Port.PART
    if get_origin(annotation) is Annotated:
        return next((extra for extra in annotation.__metadata__ if isinstance(extra, Port)), None)
    return next((port for inner in get_args(annotation) if (port := port_of(inner))), None)


@dataclass(frozen=True)
class Need:
    """A file that a part cannot do without."""

    file: Path
    missing: str  # what to say where it is not there and is not fetched
    url: str = ""  # where it is fetched from, if it may be
    size: int = 0  # bytes, about


@dataclass_transform(kw_only_default=True)
@dataclass(kw_only=True, eq=False, repr=False)
class Part(nn.Module, FromNode):
    """A named, typed piece of a plan. It is cheap to make; `setup` does what is costly."""

    registry: ClassVar[Registry[Any]]
    ports: ClassVar[dict[str, Port]] = {}
    type_name: ClassVar[str] = ""

    after: Annotated[int, Ge(0)] = 0
    before: int | None = None
    every: Annotated[int, Gt(0)] = 1

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Make a module before its options are set, as parts among these become modules of this one."""
        part = super().__new__(cls)
        nn.Module.__init__(part)
        return part

    def __init_subclass__(cls, type: str | None = None) -> None:
        super().__init_subclass__()
        _check_attributes(cls)
        dataclass(kw_only=True, eq=False, repr=False)(cls)
        setattr(cls, "__hash__", nn.Module.__hash__)  # noqa: B010  which a second @dataclass would take away
        hints = get_type_hints(cls, include_extras=True)
        cls.ports = {field: port for field, hint in hints.items() if (port := port_of(hint))}
        for field, port in cls.ports.items():
            if port is Port.PART and field in vars(cls):
                delattr(cls, field)  # a default, which would stand before a module of that name
        if type is not None:
            _check_methods(cls, hints)
            cls.type_name = type
            cls.registry.add(type, cls)

    def __post_init__(self) -> None:
        self._schedules: dict[str, Schedule] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        for name, port in self.ports.items():
            if port is Port.READ and getattr(self, name) == "None":
                setattr(self, name, None)
            if port is Port.PART and isinstance(several := getattr(self, name), dict):
                self._names[name] = tuple(several)
                setattr(self, name, nn.ModuleList(several.values()))
        for field in self.options():
            if isinstance(value := getattr(self, field.name), Schedule):
                self.follow(field.name, value)
        self.check()

    def check(self) -> None:
        """Raise a `ValueError` that says what is wrong with options that only together are wrong."""

    @classmethod
    def from_node(cls, node: Node, faults: list[Fault]) -> Any:
        """Make the part within a part that an option describes by its `type` and its options."""
        if not isinstance(node.value, dict):
            faults.append(node.fault(f"expected {cls.in_words}, got {node.show()}"))
            return None
        outer = {field.name.rstrip("_") for field in fields(cls)}
        faults += [
            node.fields[option].fault("this belongs to the part around it; write it there")
            for option in node.fields
            if option in outer
        ]
        chosen = cls.registry.choose(node, "type", faults)
        return make(chosen, node, faults, {"type", *outer}) if chosen else None

    def inner(self) -> Iterator["Part"]:
        """The parts that are options of this one."""
        ports = (field for field, port in self.ports.items() if port is Port.PART)
        return (part for field in ports for part in self.parts_at(field).values())

    def parts_at(self, field: str) -> dict[str, "Part"]:
        """The parts at a port: by name where it takes several, the only one under no name."""
        given = getattr(self, field)
        named = zip(self._names[field], given, strict=True) if isinstance(given, nn.ModuleList) else [("", given)]
        return {name: part for name, part in named if isinstance(part, Part)}

    def whole(self) -> Iterator["Part"]:
        """The part and all parts within it, at any depth."""
        return (part for part in self.modules() if isinstance(part, Part))

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
        return bool(self._schedules) or any(part.scheduled for part in self.inner())

    def scheduled_values(self) -> Iterator[Any]:
        """The values that scheduled options have now."""
        yield from (getattr(self, field) for field in self._schedules)
        for part in self.inner():
            yield from part.scheduled_values()

    def advance(self, iteration: int, iterations_per_epoch: int) -> None:
        """Give every scheduled option its value in an iteration."""
        for field, schedule in self._schedules.items():
            setattr(self, field, at(schedule, iteration, iterations_per_epoch))
        for part in self.inner():
            part.advance(iteration, iterations_per_epoch)

    @property
    def uses_epochs(self) -> bool:
        own = any(schedule.unit == "epoch" for schedule in self._schedules.values())
        return own or any(part.uses_epochs for part in self.inner())

    @classmethod
    def options(cls) -> tuple[Field[Any], ...]:
        """The fields that options may set."""
        return fields(cls)

    def names_at(self, port: Port) -> tuple[str, ...]:
        """The names that the options put at this part's ports of one kind."""
        return tuple(key for field, kind in self.ports.items() if kind is port for key in keys_in(getattr(self, field)))

    def reads(self) -> tuple[str, ...]:
        """The state keys that the part reads, those of parts within it among them."""
        return (*self.names_at(Port.READ), *(key for part in self.inner() for key in part.reads()))

    def writes(self) -> tuple[str, ...]:
        """The state keys that the part writes, in the order in which `forward` returns them."""
        return (*self.names_at(Port.WRITE), *(key for part in self.inner() for key in part.writes()))

    def networks(self) -> tuple[str, ...]:
        """The networks that the part calls."""
        return (*self.names_at(Port.NET), *(name for part in self.inner() for name in part.networks()))


def _check_attributes(cls: type[Part]) -> None:
    """Refuse what would stand in the way of how a part is made, and options named like what every part has."""
    if "__init__" in vars(cls):
        how = "its options are its annotated attributes; judge them in check(), and make what it owns in setup()"
        raise TypeError(f"{cls.__name__} has an __init__ of its own, but {how}")
    begun = vars(cls).get("__post_init__")
    if begun and "__post_init__" not in begun.__code__.co_names:
        raise TypeError(f"{cls.__name__}.__post_init__ has to call super().__post_init__()")
    for name in inspect.get_annotations(cls):
        if inspect.isroutine(getattr(Part, name, None)) or name in nn.Module.__annotations__:
            raise TypeError(
                f"{cls.__name__}.{name}: every part has a {name!r}; write '{name}_', the option stays {name!r}"
            )


def _check_methods(cls: type[Part], hints: Mapping[str, Any]) -> None:
    """Refuse a part without a method that it needs, and one whose `forward` does not take exactly its ports.

    Ports that it writes are not given to `forward`.
    """
    for name, none in {"forward": nn.Module.forward, "compute": Evaluator.compute}.items():
        if getattr(cls, name, None) is none:
            raise TypeError(f"{cls.__name__} has no method {name!r}")
    for name in ("after", "before", "every"):
        if hints[name] != get_type_hints(Part, include_extras=True)[name]:
            raise TypeError(f"{cls.__name__}.{name}: {name!r} says when any part is on; choose another name")
    takes = set(inspect.signature(cls.forward).parameters) - {"self"}
    ports = {field for field, port in cls.ports.items() if port is not Port.WRITE}
    if takes != ports:
        raise TypeError(f"{cls.__name__}.forward takes {sorted(takes)}, its ports are {sorted(ports)}")


class Injector(Part):
    """Adds to the state: `forward` returns the value of its Write port, or a tuple of theirs in order."""

    registry = Registry["Injector"]("injector", "gradloom.injectors")
    in_words = "an injector, by its type and options"

    grad: bool = True  # False: runs without gradients
    no_grad: bool = False  # the same, said the other way round
    train_: bool = False  # only while training
    eval_: bool = False  # only while evaluating
    no_accum: bool = False  # runs on the first micro-batch only; the others have its values, cut from their graph


class Loss(Part):
    """Scores the state: `forward` returns a scalar, or a scalar and a mapping of detached metrics.

    The scalar is added to the step's others by weight before the one backward pass. A loss with Write ports returns
    what it writes, in order, after the metrics; that is for looking at and for later steps, and detached too.
    """

    registry = Registry["Loss"]("loss", "gradloom.losses")
    in_words = "a loss, by its type and options"

    weight: Scheduled = 1.0


class Evaluator(Part):
    """Measures networks: `forward` looks at a batch, `add` takes in what it found, `compute` says what all amounts to.

    With several processes, `forward` is given a share of the batches of the validation set, and in one process `add`
    gets what all of them found, in the order of the batches. That is tensors, numbers, words, None, or tuples, lists
    and dicts of these; `forward` keeps nothing that `compute` needs. An evaluator without `add` takes batches in by
    `forward` itself; then every process shows it every batch.
    """

    registry = Registry["Evaluator"]("evaluator", "gradloom.evaluators")
    in_words = "an evaluator, by its type and options"

    for_: Annotated[str, Wants("the name of a network")] | None = (
        None  # such as `generator.ema`: stands in for `generator` while measuring
    )
    samples: Annotated[int, Gt(0)] | None = (
        None  # how many to measure, going round if need be; None is the whole set once
    )

    def looks_at(self) -> "Shown | None":
        """What to be shown instead of the validation set, if anything; it depends on the options alone."""
        return None

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


Scalar = Tensor
"""A tensor without dimensions, of the computation's dtype."""

Metrics = dict[str, Tensor]
"""Detached scalars, by name, that a loss reports beside its value."""


def widen(value: Tensor) -> Tensor:
    """Bring half precision to float32, in which losses are computed; leave anything wider as it is."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
