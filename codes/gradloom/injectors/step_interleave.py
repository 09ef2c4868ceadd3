"""Injectors that take turns."""

from collections.abc import Iterator, Mapping
from typing import Any

from gradloom.parts import Injector, Inner


class StepInterleave(Injector, type="step_interleave"):
    """Calls one of several injectors in each iteration: the first in iteration 0, the next in 1, and so on, over again.

    All of them write the same keys, in the same order. The ancestor's, which said no more than that it was meant for
    this, could not be made.
    """

    subinjectors: dict[str, Injector]  # by names of your own

    def __post_init__(self) -> None:
        super().__post_init__()
        self._turn = 0

    def check(self) -> None:
        """See that there is something to call, and that no turn leaves a key out."""
        written = {part.writes() for part in self.inner()}
        if not written:
            raise ValueError("'subinjectors' is empty; name an injector for each turn")
        if len(written) > 1:
            raise ValueError("'subinjectors' do not write the same keys in the same order; give each the same 'out'")

    @property
    def scheduled(self) -> bool:
        """Every iteration counts."""
        return True

    def advance(self, iteration: int, iterations_per_epoch: int) -> None:
        """Take in whose turn it is."""
        super().advance(iteration, iterations_per_epoch)
        self._turn = iteration % len([*self.inner()])

    def scheduled_values(self) -> Iterator[Any]:
        """Whose turn it is, and what the parts have now."""
        yield self._turn
        yield from super().scheduled_values()

    def writes(self) -> tuple[str, ...]:
        """What each of the parts writes."""
        return next(self.inner()).writes()

    def forward(self, subinjectors: Mapping[str, Inner]) -> Any:
        return list(subinjectors.values())[self._turn]()
