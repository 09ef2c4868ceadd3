"""At which iterations something takes part."""

import math
from collections.abc import Iterable
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

    def __or__(self, other: "Gate") -> "Gate":
        """The narrowest gate that is open whenever one of the two is."""
        ends = [gate.before for gate in (self, other) if gate.before is not None]
        before = max(ends) if len(ends) == 2 else None
        return Gate(min(self.after, other.after), before, math.gcd(self.every, other.every))

    @property
    def first(self) -> int | None:
        """The first iteration in which it is open, if there is one."""
        first = -(-self.after // self.every) * self.every
        return None if self.before is not None and first > self.before else first

    def excludes(self, other: "Gate") -> bool:
        """Whether the two are never open together."""
        return (self & other).first is None

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

    def covered_by(self, gates: Iterable["Gate"]) -> bool:
        """Whether in each of its iterations one of some others is open, as far as they take over from one another."""
        left = self
        for gate in sorted(gates, key=lambda one: one.after):
            if gate.covers(left):
                return True
            if gate.before is not None and gate.covers(left & Gate(before=gate.before)):
                left &= Gate(after=gate.before + 1)
        return left.first is None

    def __str__(self) -> str:
        words = [
            f"after: {self.after}" if self.after > 0 else "",
            f"before: {self.before}" if self.before is not None else "",
            f"every: {self.every}" if self.every > 1 else "",
        ]
        return ", ".join(filter(None, words)) or "always"
