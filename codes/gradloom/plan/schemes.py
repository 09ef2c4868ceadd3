"""How learning rates change over a run: the ancestor's two schemes in closed form, and any of torch's."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler

Restarts = Sequence[tuple[int, float]]
"""Iterations at which a schedule begins anew, each with the share of the initial learning rate that it begins at."""


class Scheme(Protocol):
    """The learning rate of an iteration, given the initial one, of the parameter group at a place.

    The first place is that of parameters in no group of their own.
    """

    def lr(self, initial: float, iteration: int, place: int = 0) -> float: ...


class MultiStepLR:
    """Multiplies by gamma at each milestone: `initial * weight * gamma ** (milestones since the last restart)`.

    A milestone m takes effect in iteration m.
    """

    def __init__(
        self, milestones: Sequence[int], gamma: float, restarts: Restarts = (), force_lr: float | None = None
    ) -> None:
        self.milestones, self.gamma, self.restarts, self.force_lr = milestones, gamma, sorted(restarts), force_lr

    def lr(self, initial: float, iteration: int, place: int = 0) -> float:
        if self.force_lr is not None:
            return self.force_lr
        start, weight = _last_restart(self.restarts, iteration)
        passed = sum(start < milestone <= iteration for milestone in self.milestones)
        return initial * weight * self.gamma**passed


class ProgressiveMultiStepLR:
    """Multiplies by gamma at each milestone, counted from where the group's training begins.

    So a milestone m takes effect in iteration `starts[place] + m`: groups that begin later decay later.
    """

    def __init__(self, milestones: Sequence[int], gamma: float, starts: Sequence[int]) -> None:
        self.milestones, self.gamma, self.starts = milestones, gamma, starts

    def lr(self, initial: float, iteration: int, place: int = 0) -> float:
        passed = sum(milestone <= iteration - self.starts[place] for milestone in self.milestones)
        return initial * self.gamma**passed


class CosineAnnealingLR_Restart:
    """Holds the initial rate for some iterations, then swings down cosines (arXiv 1608.03983, eq. 5).

    The first period is that before the first restart, so where one is at 0 it is the second that the run begins with.
    Beyond the end of its period the rate swings up again, to the initial one.
    """

    def __init__(self, periods: Sequence[int], hold: int = 0, eta_min: float = 0.0, restarts: Restarts = ()) -> None:
        self.restarts = sorted(restarts)
        needed = 1 + len(self.restarts)
        if len(periods) < needed:
            need = f"'T_period' needs {needed} periods, one for each stretch between 'restarts'"
            raise ValueError(f"{need}, got {len(periods)}")
        self.periods, self.hold, self.eta_min = periods, hold, eta_min

    def lr(self, initial: float, iteration: int, place: int = 0) -> float:
        if iteration < self.hold:
            return initial
        time = iteration - self.hold
        start, weight = _last_restart(self.restarts, time)
        period = self.periods[sum(restart <= time for restart, _ in self.restarts)]
        top = initial * weight if time - start <= period else initial
        return self.eta_min + (top - self.eta_min) * (1 + math.cos(math.pi * (time - start) / period)) / 2


def _last_restart(restarts: Restarts, iteration: int) -> tuple[int, float]:
    passed = [restart for restart in restarts if restart[0] <= iteration]
    return passed[-1] if passed else (0, 1.0)


class TorchScheme:
    """A scheduler of torch's, run beside the optimizer on a parameter of its own.

    So it may be asked for any iteration, a warm-up does not disturb it, and it needs no state in a checkpoint.
    """

    def __init__(self, make: Callable[..., LRScheduler], arguments: Mapping[str, Any]) -> None:
        self.make, self.arguments = make, arguments
        self._runs: dict[float, tuple[int, SGD, LRScheduler]] = {}

    def lr(self, initial: float, iteration: int, place: int = 0) -> float:
        at, optimizer, scheduler = self._runs.get(initial) or self._start(initial)
        if iteration < at:
            at, optimizer, scheduler = self._start(initial)
        for _ in range(iteration - at):
            scheduler.step()
        self._runs[initial] = (iteration, optimizer, scheduler)
        return float(optimizer.param_groups[0]["lr"])

    def _start(self, initial: float) -> tuple[int, SGD, LRScheduler]:
        optimizer = SGD([torch.zeros(1)], lr=initial)
        scheduler = self.make(optimizer, **self.arguments)
        optimizer.step()  # a scheduler warns when it goes before its optimizer
        return 0, optimizer, scheduler
