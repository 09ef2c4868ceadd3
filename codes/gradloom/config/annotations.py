"""What annotations of options mean, and how messages name them."""

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from gradloom.config.node import Node
from gradloom.config.schedules import Schedule
from gradloom.errors import Fault


@dataclasses.dataclass(frozen=True)
class Wants:
    """Says in an annotation what its values are called in messages."""

    name: str


class FromNode:
    """A class whose values are read from nodes in a way of their own."""

    in_words: ClassVar[str]  # what its values are called in messages

    @classmethod
    def from_node(cls, node: Node, faults: list[Fault]) -> Any:
        """Return the value that a node stands for; append to `faults` what does not fit, and return None then."""
        raise NotImplementedError


LISTS = (Sequence, Collection, Iterable)


def derives(annotation: Any, parent: type) -> bool:
    """Whether an annotation is a class that derives from another."""
    return isinstance(annotation, type) and issubclass(annotation, parent)


def describe(annotation: Any) -> str:
    """An annotation in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        named = next((extra.name for extra in annotation.__metadata__ if isinstance(extra, Wants)), None)
        return named or describe(arguments[0])
    if isinstance(annotation, type) and annotation.__module__.startswith("torch"):
        return ""
    if origin is Literal:
        return ("one of " if len(arguments) > 1 else "") + ", ".join(map(str, arguments))
    if origin in (Union, UnionType):
        names = [describe(member) for member in arguments if member is not NoneType]
        return " or ".join(dict.fromkeys(filter(None, names)))
    if origin in (list, tuple, *LISTS):
        inner = [describe(argument) for argument in arguments if argument is not Ellipsis]
        alike = origin is not tuple or Ellipsis in arguments
        return f"a list, each item {inner[0]}" if alike else f"[{', '.join(inner)}]"
    if origin is dict or annotation is dict:
        return "a mapping"
    if derives(annotation, Enum):
        return f"one of {', '.join(str(one.value) for one in annotation)}"
    if derives(annotation, Schedule):
        return "a schedule"
    if derives(annotation, FromNode):
        return str(annotation.in_words)
    if dataclasses.is_dataclass(annotation):
        return "a mapping of options"
    return _WORDS.get(annotation) or (annotation.__name__ if isinstance(annotation, type) else str(annotation))


_WORDS: dict[Any, str] = {
    int: "a whole number", float: "a number", str: "a word", bool: "true or false",
    Path: "a path", Any: "any value", NoneType: "nothing",
}  # fmt: skip
