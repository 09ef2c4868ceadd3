"""Where the time of a trainer's iterations goes, part by part; an ordinary run does without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.profiler import record_function

if TYPE_CHECKING:
    from gradloom.engine.trainer import Trainer


class Stopwatch:
    """Adds up seconds by name: the host's, or on a GPU those between CUDA events, for which nothing waits.

    While `tracing`, each stretch is marked for torch's profiler instead.
    """

    def __init__(self, device: torch.device) -> None:
        self._gpu = device if device.type == "cuda" else None
        self._seconds: dict[str, float] = {}
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self.tracing = False

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self.tracing:
            with record_function(name):
                yield
        elif self._gpu:
            began = self._mark()
            yield
            self._events.append((name, began, self._mark()))
        else:
            began_at = time.perf_counter()
            yield
            self.add(name, time.perf_counter() - began_at)

    def _mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._gpu))
        return event

    def add(self, name: str, seconds: float) -> None:
        """Count seconds that were measured otherwise."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def read(self) -> dict[str, float]:
        """The seconds so far, in the order in which names first came up, and begin anew; a GPU is waited for."""
        if self._gpu:
            torch.cuda.synchronize(self._gpu)
        for name, began, ended in self._events:
            self.add(name, began.elapsed_time(ended) / 1000)
        seconds, self._seconds, self._events = self._seconds, {}, []
        return seconds


def watch(trainer: Trainer, stopwatch: Stopwatch) -> None:
    """Put the stopwatch around each call, backward pass, optimizer and average of a trainer, from now on."""
    for bound in trainer.calls.values():
        for method in ("inject", "score"):
            _around(bound, method, stopwatch, lambda _, path=bound.path: path)
    acting = ""

    def updating(optimizer: object, step: str, *_: object) -> str:
        nonlocal acting
        acting = step
        return f"steps.{step}.optimizer"

    _around(trainer.precision, "backward", stopwatch, lambda _, step: f"steps.{step}.backward")
    _around(trainer.precision, "update", stopwatch, updating)
    for average in trainer.averages.values():
        _around(average, "update", stopwatch, lambda: f"steps.{acting}.averages")


def _around(owner: Any, method: str, stopwatch: Stopwatch, name: Callable[..., str]) -> None:
    """Put the stopwatch around a method of one object."""
    inner = getattr(owner, method)

    def timed(*given: Any) -> Any:
        with stopwatch(name(*given)):
            return inner(*given)

    setattr(owner, method, timed)
