"""At which iterations something takes part."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """Open in the iterations with `after <= iteration <= before` that `every` divides."""

    after: int = 0
    before: int | None = None
    every: int = 1

    @property
    def always(self) -> bool:
        return self.after <= 0 and self.before is None and self.every == 1

    def open(self, iteration: int) -> bool:
        return (
            self.after <= iteration
            and (self.before is None or iteration <= self.before)
            and iteration % self.every == 0
        )

    def __and__(self, other: "Gate") -> "Gate":
        ends = [gate.before for gate in (self, other) if gate.before is not None]
        return Gate(max(self.after, other.after), min(ends, default=None), math.lcm(self.every, other.every))

    @property
    def first(self) -> int | None:
        """The first iteration in which it is open, if there is one."""
        first = -(-self.after // self.every) * self.every
        return None if self.before is not None and first > self.before else first

    def covers(self, other: "Gate") -> bool:
        """Whether it is open whenever the other is."""
        first = other.first
        if first is None:
            return True
        if other.before is not None:
            last = other.before // other.every * other.every
            if first == last:
                return self.open(first)
            if self.before is not None and last > self.before:
                return False
        elif self.before is not None:
            return False
        return first >= self.after and other.every % self.every == 0

    def __str__(self) -> str:
        words = [
            f"after: {self.after}" if self.after > 0 else "",
            f"before: {self.before}" if self.before is not None else "",
            f"every: {self.every}" if self.every > 1 else "",
        ]
        return ", ".join(filter(None, words)) or "always"
