"""Another name for a key."""

from typing import Any

from gradloom.parts import Injector, Read, Write


class Direct(Injector, type="direct"):
    """Gives the value of a key another name; nothing is copied."""

    in_: Read
    out: Write

    def forward(self, in_: Any) -> Any:
        return in_
