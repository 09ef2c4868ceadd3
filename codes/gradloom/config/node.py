"""A YAML value that knows where it was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gradloom.errors import Fault, Mark


@dataclass(frozen=True)
class Node:
    """A scalar, a list of nodes, or a mapping from names to nodes, with its place and dotted path.

    The child of a mapping stands where its key stands.
    """

    value: Any = field(repr=False)
    mark: Mark
    path: str

    def fault(self, message: str) -> Fault:
        return Fault(self.mark, self.path, message)

    @property
    def fields(self) -> Mapping[str, Node]:
        """The children of a mapping; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> Sequence[Node]:
        """The items of a list; empty for anything else."""
        return self.value if isinstance(self.value, list) else ()

    def get(self, key: str) -> Node | None:
        return self.fields.get(key)

    def at(self, path: str) -> Node:
        """The same value under another dotted path, its descendants too."""
        return replace(self, path=path, value=_moved(self.value, path))

    def plain(self) -> Any:
        """The value without the places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    def show(self) -> str:
        """The value as a message quotes it."""
        if isinstance(self.value, dict):
            return "a mapping"
        if isinstance(self.value, list):
            return f"the list {self.plain()!r}"[:80]
        if self.value is None:
            return "nothing"
        return f"{type(self.value).__name__} {self.value!r}"[:80]


def _moved(value: Any, path: str) -> Any:
    if isinstance(value, dict):
        return {key: child.at(join(path, key)) for key, child in value.items()}
    if isinstance(value, list):
        return [item.at(f"{path}[{i}]") for i, item in enumerate(value)]
    return value


def join(path: str, key: str) -> str:
    """Extend a dotted path."""
    return f"{path}.{key}" if path else key
