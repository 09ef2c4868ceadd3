"""What the source says of options: the comments at their lines, and their defaults."""

import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any


def summary(target: Callable[..., Any]) -> str:
    """The first paragraph of what a class or function says of itself, in one line."""
    return " ".join(inspect.cleandoc(target.__doc__ or "").partition("\n\n")[0].split())


def comments_of(target: Callable[..., Any]) -> dict[str, str]:
    """What the source says at the end of the line of each attribute."""
    found: dict[str, str] = {}
    for cls in reversed(target.__mro__) if isinstance(target, type) else ():
        found |= _comments_in(cls) if cls.__module__.startswith("gradloom.") else {}
    return found


@cache
def _comments_in(cls: type) -> dict[str, str]:
    lines = re.findall(r"^ {4,8}(\w+): .*?  # (.+)$", inspect.getsource(cls), re.MULTILINE)
    return {name: comment for name, comment in lines if comment != "fmt: skip"}


def default_of(target: Callable[..., Any], name: str, default: Any) -> Any:
    """A default as a value: what a dataclass's factory makes stands for the factory."""
    if is_dataclass(target):
        field = next((field for field in fields(target) if field.name == name), None)
        if field is not None and field.default_factory is not MISSING:
            return field.default_factory()
    return default
