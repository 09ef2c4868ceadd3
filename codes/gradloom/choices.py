"""What options choose by name and build later: networks, datasets, optimizers and hooks."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

from torch import nn
from torch.optim import Optimizer
from torch.utils.data import Dataset

from gradloom.config.annotations import FromNode
from gradloom.config.binding import bind
from gradloom.config.node import Node
from gradloom.errors import Fault, RunError
from gradloom.registry import Registry


class Datasets(Registry[Dataset[Any]]):
    """Classes of datasets, which say what a sample holds before they are made."""

    def add(self, name: str, make: Callable[..., Dataset[Any]]) -> None:
        """Give a class its name, unless its samples cannot be asked for by index, or its `keys` cannot be read."""
        needed = ("__len__", "__getitem__") if isinstance(make, type) else ()
        if any(inspect.getattr_static(make, name, None) is None for name in needed):
            raise TypeError(f"{make.__qualname__}: samples are asked for by index; write __len__ and __getitem__")
        keys = inspect.getattr_static(make, "keys", None)
        if isinstance(keys, str | property) or inspect.isfunction(keys):
            how = 'a tuple such as ("hq",), or a class method that takes the options'
            raise TypeError(f"{make.__qualname__}.keys is {type(keys).__name__}; write {how}")
        super().add(name, make)


networks = Registry[nn.Module]("network", "gradloom.networks")
datasets = Datasets("dataset", "gradloom.datasets")
optimizers = Registry[Optimizer]("optimizer", "gradloom.optimizers")
hooks = Registry[Any]("hook")  # those of plugins

T = TypeVar("T")


@dataclass(frozen=True, repr=False)
class Choice(FromNode, Generic[T]):
    """Something that an option chooses by name, with options of its own, to be built when it is needed."""

    registry: ClassVar[Registry[Any]]
    key: ClassVar[str]  # the option that holds the name
    default: ClassVar[str | None] = None  # the name where there is none

    name: str
    make: Callable[..., T]
    arguments: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{option}={value}' for option, value in self.arguments.items())})"

    def build(self, **more: Any) -> T:
        """Build it, with more arguments than the options gave."""
        return self.make(**self.arguments, **more)

    @classmethod
    def of(cls, name: str, **arguments: Any) -> Self:
        """Choose what is of a name, as options would; raises `RunError` where there is none."""
        make = cls.registry.find(name)
        if make is None:
            raise RunError(f"there is no {name!r}")
        return cls(name, make, arguments)

    @classmethod
    def from_node(cls, node: Node, faults: list[Fault]) -> Any:
        """Read the name, and bind the other options to what it names; those under `kwargs` are among them."""
        if not isinstance(node.value, dict):
            faults.append(node.fault(f"expected {cls.in_words}, got {node.show()}"))
            return None
        named = {cls.key: replace(node, value=cls.default)} if cls.default else {}
        fields = {**named, **node.fields}
        inside = fields.pop("kwargs", None)
        whole = replace(node, value={**(inside.fields if inside else {}), **fields})
        made = cls.registry.choose(whole, cls.key, faults)
        if made is None:
            return None
        before = len(faults)
        arguments = bind(made, whole, faults, {cls.key})
        return cls(whole.fields[cls.key].value, made, arguments) if len(faults) == before else None


class NetworkChoice(Choice[nn.Module]):
    """A network within a network, a part or a dataset: `{which_model: ..., <its options>}`."""

    registry, key, in_words = networks, "which_model", "a network, by 'which_model' and its options"


class DatasetChoice(Choice[Dataset[Any]]):
    """A dataset within a dataset or a part: `{mode: ..., <its options>}`, an imagefolder where `mode` is left out."""

    registry, key, in_words = datasets, "mode", "a dataset, by 'mode' and its options"
    default = "imagefolder"

    @property
    def keys(self) -> tuple[str, ...] | None:
        """What its samples hold, as far as it says."""
        return keys_of(self.make, self.arguments)


@dataclass(frozen=True)
class Shown:
    """A dataset that an evaluator is shown instead of the validation set."""

    dataset: DatasetChoice
    batch_size: int
    option: str | None = None  # that says which data; the evaluator as a whole unless given


def keys_of(dataset: Any, arguments: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The keys that a dataset's class declares: a tuple, or a class method that is given the options."""
    declared = getattr(dataset, "keys", None)
    declared = declared(**arguments) if callable(declared) else declared  # None of a dataset within that does not say
    if not isinstance(declared, list | tuple | None) or not all(isinstance(key, str) for key in declared or ()):
        raise ValueError(f"keys are a tuple of words, or None, got {declared!r}")
    return None if declared is None else tuple(declared)
