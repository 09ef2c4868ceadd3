"""What is made when a run begins: a class or function with the options that it was given."""

from collections.abc import Collection
from typing import Any

from gradloom.config.binding import bind
from gradloom.config.node import Node
from gradloom.errors import Fault
from gradloom.plan.plan import Recipe


def bind_recipe(cls: Any, node: Node, faults: list[Fault], skip: Collection[str]) -> Recipe | None:
    """Bind what is made when the run begins; None when its options have a fault."""
    found: list[Fault] = []
    arguments = bind(cls, node, found, skip)
    faults += found
    return None if found else Recipe(cls, arguments, node)
