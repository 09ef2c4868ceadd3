"""Names for the classes that options may choose, each found in the package of its kind."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from gradloom.config.left_out import why_left_out
from gradloom.config.node import Node
from gradloom.errors import Fault, UnknownName, suggest

T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., Any])


class Registry(Generic[T]):
    """The classes of one kind, by the name options call them.

    A name is looked for in the module of the same name first, so that a run imports little more than it uses; all
    other modules follow only when it is not there. A module that begins with an underscore defines nothing that
    options may choose. One whose library is not installed is remembered, and named in the fault.
    """

    def __init__(self, kind: str, package: str | None = None) -> None:
        self.kind, self.package = kind, package
        self.classes: dict[str, Callable[..., T]] = {}
        self.unavailable: dict[str, str] = {}

    def add(self, name: str, make: Callable[..., T]) -> None:
        """Give a class, or a function that builds one, its name.

        A later definition replaces an earlier one of the user's own, as in a notebook; Gradloom's own names are taken.
        """
        if not _ours(make) and name not in self.classes and name in self._modules():
            self._import(name)
        known = self.classes.get(name)
        if known is not None and _ours(known) and known is not make:
            raise TypeError(f"{make.__qualname__}: {name!r} is the name of Gradloom's own {self.kind}; choose another")
        self.classes[name] = make

    def register(self, name: str) -> Callable[[C], C]:
        """Decorate a class that names itself in no other way, such as a network or a dataset."""
        if not isinstance(name, str):
            raise TypeError(f'@register stands without a name before {name.__name__}; write @register("a_name")')

        def decorate(make: C) -> C:
            self.add(name, make)
            return make

        return decorate

    def find(self, name: str) -> Callable[..., T] | None:
        """Return the class of a name, importing the module of that name, or all of them, if need be."""
        if name not in self.classes and name in self._modules():
            self._import(name)
        if name not in self.classes:
            self.discover()
        return self.classes.get(name)

    @property
    def names(self) -> set[str]:
        """Every name that options may use, whether its module is imported yet or not."""
        return {*self.classes, *self._modules()}

    def discover(self) -> list[str]:
        """Import every module of the package; return the names known then."""
        for module in self._modules():
            if module not in self.classes:
                self._import(module)
        return sorted(self.classes)

    def choose(self, node: Node, key: str, faults: list[Fault]) -> Callable[..., T] | None:
        """Return the class named at a key of a node, or append why there is none."""
        chosen = node.get(key)
        if chosen is None:
            faults.append(node.fault(f"option {key!r} is missing; {suggest('', self.names)}"))
            return None
        if not isinstance(chosen.value, str):
            article = "an" if self.kind[0] in "aeiou" else "a"
            faults.append(chosen.fault(f"expected the name of {article} {self.kind}, got {chosen.show()}"))
            return None
        found = self.find(chosen.value)
        if found is None:
            why = f"no {self.kind} is called {chosen.value!r}; {self._hint(chosen.value)}"
            faults.append(UnknownName(**vars(chosen.fault(why))))
        return found

    def _hint(self, name: str) -> str:
        absent = self.unavailable.get(name)
        if absent:
            return f"it needs the library {absent!r}, which is not installed"
        return why_left_out(self.kind, name) or suggest(name, self.names)

    def _modules(self) -> list[str]:
        if self.package is None:
            return []
        modules = pkgutil.iter_modules(importlib.import_module(self.package).__path__)
        return sorted(module.name for module in modules if not module.name.startswith("_"))

    def _import(self, module: str) -> None:
        try:
            importlib.import_module(f"{self.package}.{module}")
        except ImportError as error:
            if error.name is None or error.name.startswith("gradloom"):
                raise
            self.unavailable[module] = error.name


def _ours(make: Callable[..., Any]) -> bool:
    return make.__module__.startswith("gradloom.")
