"""A YAML value that knows where it was written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gradloom.config.secrets import discreet, is_secret, masked, name_of, secrets_in
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
        """Say something of it, but for the secrets it holds; of what could not be read, only that."""
        if isinstance(self.value, Unreadable):
            return self.value.why
        return Fault(self.mark, self.path, discreet(message, secrets_in(self.plain(), name_of(self.path))))

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

    def only(self, keys: Collection[str]) -> Node:
        """A mapping without its other children."""
        return replace(self, value={key: child for key, child in self.fields.items() if key in keys})

    def find(self, word: str) -> Node | None:
        """The place of a word: here, or in a list or a mapping here."""
        if self.value == word:
            return self
        return next((found for item in (*self.items, *self.fields.values()) if (found := item.find(word))), None)

    def at(self, path: str) -> Node:
        """The same value under another dotted path, its descendants too."""
        return replace(self, path=path, value=_moved(self.value, path))

    @property
    def secret(self) -> bool:
        """Whether this is a word that nobody may be told."""
        return is_secret(name_of(self.path), self.value)

    def plain(self) -> Any:
        """The value without the places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return None if isinstance(self.value, Unreadable) else self.value

    def show(self) -> str:
        """The value as a message quotes it."""
        if isinstance(self.value, dict):
            return "a mapping"
        if isinstance(self.value, list):
            return _shortened(f"the list {masked(self.plain(), name_of(self.path))!r}")
        if self.secret:
            return "a secret"
        if self.value is None:
            return "nothing"
        if isinstance(self.value, bool):
            return f"bool {str(self.value).lower()}"
        return _shortened(f"{type(self.value).__name__} {self.value!r}")


def grown(value: Any, mark: Mark, path: str = "") -> Node:
    """The node of a plain value, all of which stands at one place."""
    if isinstance(value, dict):
        return Node({key: grown(child, mark, join(path, key)) for key, child in value.items()}, mark, path)
    if isinstance(value, list | tuple):
        return Node([grown(item, mark, f"{path}[{i}]") for i, item in enumerate(value)], mark, path)
    return Node(value, mark, path)


@dataclass(frozen=True)
class Unreadable:
    """The value of a node that could not be read, for a reason that has been told."""

    why: Fault


def _shortened(words: str) -> str:
    return words if len(words) <= 80 else f"{words[:77]}..."


def _moved(value: Any, path: str) -> Any:
    if isinstance(value, dict):
        return {key: child.at(join(path, key)) for key, child in value.items()}
    if isinstance(value, list):
        return [item.at(f"{path}[{i}]") for i, item in enumerate(value)]
    return value


def join(path: str, key: str) -> str:
    """Extend a dotted path."""
    return f"{path}.{key}" if path else key


def children(node: Node | None, key: str) -> list[tuple[str, Node]]:
    """What a mapping holds at a key, by name."""
    child = node.get(key) if node else None
    return list(child.fields.items()) if child else []
