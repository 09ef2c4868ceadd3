"""A loss of one entry of a sequence."""

from typing import Any

from gradloom.errors import RunError
from gradloom.losses._sequences import length, of_entry
from gradloom.parts import Inner, Loss, Metrics, Scalar


class ForElement(Loss, type="for_element"):
    """Gives a loss the entry `index` of the sequences (B, T, ...) that it reads, (B, ...) each."""

    part: Loss
    index: int  # from 0, or backwards from -1

    def forward(self, part: Inner) -> tuple[Scalar, Metrics, *tuple[Any, ...]]:
        entries = length("for_element", part)
        if not -entries <= self.index < entries:
            raise RunError(f"for_element: 'index' {self.index} is too large for sequences of {entries} entries")
        return of_entry(part, self.index)
