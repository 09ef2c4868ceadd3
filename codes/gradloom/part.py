"""What every part has, whatever its kind: options, ports, a gate, schedules, and parts within it."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, dataclass_transform, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt
from torch import nn

from gradloom.config.annotations import FromNode
from gradloom.config.binding import make
from gradloom.config.node import Node
from gradloom.config.schedules import Schedule, at
from gradloom.errors import Fault
from gradloom.gates import Gate
from gradloom.ports import Port, Read, keys_in
from gradloom.registry import Registry


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
    keyed: ClassVar[frozenset[str]] = frozenset()  # the ports that take one state key, and nothing else
    type_name: ClassVar[str] = ""
    to_write: ClassVar[Mapping[str, Any]] = {"forward": nn.Module.forward}  # methods that are not there yet

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
        cls.keyed = frozenset(field for field, hint in hints.items() if hint == Read)
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
                if name in self.keyed:
                    raise ValueError(f"{name.rstrip('_')!r} needs a state key; the word 'None' stands for nothing")
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
    for name, unwritten in cls.to_write.items():
        if getattr(cls, name, None) is unwritten:
            raise TypeError(f"{cls.__name__} has no method {name!r}")
    for name in ("after", "before", "every"):
        if hints[name] != get_type_hints(Part, include_extras=True)[name]:
            raise TypeError(f"{cls.__name__}.{name}: {name!r} says when any part is on; choose another name")
    takes = set(inspect.signature(cls.forward).parameters) - {"self"}
    ports = {field for field, port in cls.ports.items() if port is not Port.WRITE}
    if takes != ports:
        raise TypeError(f"{cls.__name__}.forward takes {sorted(takes)}, its ports are {sorted(ports)}")
