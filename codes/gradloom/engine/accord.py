"""Work in which one process may fail by itself: all of them fail alike, and none waits for another for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gradloom.engine.world import World
from gradloom.errors import Diverged, Fault, RunError

T = TypeVar("T")

_Failure = tuple[type[RunError], Fault | str]


class Accord:
    """Keeps an error of this process until all ask each other whether somebody has failed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._error: Exception | None = None

    def attempt(self, work: Callable[[], T]) -> T | None:
        """Do some work, unless this process has failed before; None where it fails now."""
        if self.world.processes == 1:
            return work()
        if self._error is None:
            try:
                return work()
            except Exception as error:
                self._error = error
        return None

    def agree(self, told: T) -> list[T]:
        """What each process tells, by their numbers, if none has failed.

        Raises:
            Exception: what the first process that failed has raised; in the others it is a `RunError` that says so.
        """
        error, self._error = self._error, None
        reports = self.world.gather((told, _failure(error, self.world.number) if error else None))
        for number, (_, failure) in enumerate(reports):
            if failure and error and number == self.world.number:
                raise error
            if failure:
                kind, what = failure
                raise kind(what) from error
        return [told for told, _ in reports]


def _failure(error: Exception, process: int) -> _Failure:
    """What other processes are told of an error: its kind as far as an exit code depends on it, and its words."""
    if not isinstance(error, RunError):
        return RunError, f"process {process} failed: {type(error).__name__}: {error}"
    return Diverged if isinstance(error, Diverged) else RunError, error.fault or str(error)
