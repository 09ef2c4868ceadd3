"""What a part does with the names at its options: its ports."""

from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

from typing_extensions import TypeAliasType

from gradloom.config.annotations import Wants
from gradloom.config.schedules import Schedule


class Port(Enum):
    """What a part does with the names at one of its options."""

    READ = "reads the state key"
    WRITE = "writes the state key"
    NET = "calls the network"
    PART = "calls the part"


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


def keys_in(names: Any) -> Iterator[str]:
    """The state keys among the names at a port: words other than 'None', at any depth, in mappings too."""
    if isinstance(names, str):
        yield from () if names == "None" else (names,)
    elif isinstance(names, list | tuple | dict):
        for name in names.values() if isinstance(names, dict) else names:
            yield from keys_in(name)
