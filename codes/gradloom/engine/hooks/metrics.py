"""Tell the losses: their means over each logging interval, with learning rates, speed and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradloom.engine.hooks.hook import Hook, Run
from gradloom.engine.memory import most_bytes
from gradloom.engine.reading import Reading
from gradloom.engine.returned import numbers
from gradloom.engine.world import World
from gradloom.raised import placed

Names = tuple[str, ...]


@dataclass
class Interval:
    """What is to be told of an interval once its numbers are there."""

    iteration: int
    names: Names
    sums: Reading | None  # of the finite numbers, and of their weights: (2, names)
    values: dict[str, float]  # what the host knows


class Metrics(Hook):
    """Keeps what the iterations return, on the device, and reads it back once an interval.

    On a GPU an interval is told after the iteration that follows it, for which the device then has not waited. Numbers
    that are not finite, those of updates that were skipped, do not count in the means.
    """

    def __init__(self, every: int, later: bool = False) -> None:
        self.every, self.later = every, later
        self._untold: Interval | None = None
        self._sums: dict[Names, Tensor] = {}  # of the finite numbers, and of their weights: (2, names)
        self._skipped: dict[str, int] = {}
        self._seconds = self._waited = 0.0
        self._iterations = 0

    def state(self) -> dict[str, Any]:
        sums = [[list(names), sums] for names, sums in self._sums.items()]
        return {"sums": sums, "skipped": dict(self._skipped)}

    def load(self, state: Mapping[str, Any]) -> None:
        self._sums = {tuple(names): sums for names, sums in state["sums"]}
        self._skipped = dict(state["skipped"])
        self._untold = None

    def skipped(self, step: str) -> None:
        """Count an update that was skipped."""
        name = f"{step}/skipped"
        self._skipped[name] = self._skipped.get(name, 0) + 1

    def after_iteration(self, run: Run, metrics: Mapping[str, Tensor]) -> None:
        if metrics:
            values = [value.detach() for value in metrics.values()]
            row = torch.stack([value.to(_widest(value.device)) for value in values])
            finite = row.isfinite()
            added = torch.stack([row.where(finite, 0), finite.to(row.dtype)])
            if run.fetched and run.fetched.weight != 1:
                added *= run.fetched.weight
            names = tuple(metrics)
            self._sums[names] = self._sums[names].to(row.device) + added if names in self._sums else added
        self._iterations += 1
        run.log.tick(run.trainer.iteration)
        self.settle(run)
        if run.trainer.iteration % self.every == 0 or run.last:
            self._untold = self._interval(run)
            if not self.later or run.last:
                self.settle(run)

    def settle(self, run: Run) -> None:
        """Tell of the interval that is over, if that has not been told."""
        interval, self._untold = self._untold, None
        if interval:
            run.report("train", _means(interval, run.trainer.world) | interval.values, iteration=interval.iteration)

    def _interval(self, run: Run) -> Interval:
        """End an interval: its sums are read back in one transfer."""
        names = tuple(name for names in self._sums for name in names)
        sums = Reading(torch.cat(list(self._sums.values()), 1)) if self._sums else None
        known = run.trainer.rates.now() | self._skipped | _told_by_networks(run) | self._speed(run)
        ended = Interval(run.trainer.iteration, names, sums, known)
        self._sums, self._skipped, self._iterations = {}, {}, 0
        return ended

    def _speed(self, run: Run) -> dict[str, float]:
        seconds, waited = run.seconds - self._seconds, run.waited - self._waited
        self._seconds, self._waited = run.seconds, run.waited
        rate = self._iterations / max(seconds, 1e-9)
        batch_size = run.trainer.plan.datasets["train"].batch(run.trainer.world.processes)
        sizes = [size for size in run.trainer.world.gather(most_bytes(run.trainer.world.device)) if size is not None]
        return {
            "iterations_per_second": rate,
            "samples_per_second": rate * batch_size,
            "data_wait_share": waited / max(seconds, 1e-9),
            **({"peak_memory_mb": max(sizes) / 1e6} if sizes else {}),
        }


@torch.no_grad()
def _told_by_networks(run: Run) -> dict[str, float]:
    """What networks tell of themselves; the host waits for what is on a GPU."""
    found: dict[str, float] = {}
    for network, tell in run.trainer.taking_part.numbers.items():
        with placed(f"networks.{network}"):
            told = numbers(tell(run.trainer.iteration), f"networks.{network}: get_debug_values()")
        found |= {f"debug/{network}/{name}": number for name, number in told.items()}
    return found


def _means(interval: Interval, world: World) -> dict[str, float]:
    """The means over all processes."""
    together = interval.sums.numbers() if interval.sums else [[], []]
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    for everyones in world.gather((interval.names, *together)):
        for name, total, count in zip(*everyones, strict=True):
            sums[name], counts[name] = sums.get(name, 0.0) + total, counts.get(name, 0.0) + count
    return {name: sums[name] / counts[name] for name in sums if counts[name]}


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64
