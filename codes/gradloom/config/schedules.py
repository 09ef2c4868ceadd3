"""Numbers that change over a run: any weight, learning rate or scale annotated `Scheduled`.

In options they are written so:

    weight: {linear: {from: 0, to: 1, start: 1000, end: 5000}}
    lr: {cosine: {from: 2e-4, to: 0, start: 100, end: 200, unit: epoch}}
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """A number as a function of the iteration, counted from 0."""

    kinds: ClassVar[dict[str, type["Schedule"]]] = {}

    unit: Literal["iteration", "epoch"] = "iteration"

    def __init_subclass__(cls, kind: str, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        cls.kinds[kind] = cls

    def at(self, iteration: int, iterations_per_epoch: int) -> float:
        """The value in an iteration; epochs count in fractions."""
        return self.value(iteration if self.unit == "iteration" else iteration / iterations_per_epoch)

    @abstractmethod
    def value(self, time: float) -> float:
        """The value at a time in the schedule's unit."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """What no value is below, and none above."""


Scheduled = float | Schedule


def at(number: float | Schedule, iteration: int, iterations_per_epoch: int) -> float:
    """The value of a number or a schedule in an iteration."""
    return number.at(iteration, iterations_per_epoch) if isinstance(number, Schedule) else number


@dataclass(frozen=True, kw_only=True)
class _Ramp(Schedule, kind=""):
    from_: float
    to: float
    start: float = 0
    end: float

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise ValueError(f"'end' has to come after 'start', got {self.end:g} and {self.start:g}")

    def progress(self, time: float) -> float:
        """From 0 at the start to 1 at the end and after."""
        return min(1.0, max(0.0, (time - self.start) / (self.end - self.start)))

    @property
    def bounds(self) -> tuple[float, float]:
        return min(self.from_, self.to), max(self.from_, self.to)


del Schedule.kinds[""]


@dataclass(frozen=True, kw_only=True)
class Linear(_Ramp, kind="linear"):
    """Goes in a straight line."""

    def value(self, time: float) -> float:
        return self.from_ + (self.to - self.from_) * self.progress(time)


@dataclass(frozen=True, kw_only=True)
class Cosine(_Ramp, kind="cosine"):
    """Goes along half a period of a cosine, slow at both ends."""

    def value(self, time: float) -> float:
        return self.to + (self.from_ - self.to) * (1 + math.cos(math.pi * self.progress(time))) / 2


@dataclass(frozen=True, kw_only=True)
class Exponential(_Ramp, kind="exponential"):
    """Goes by equal factors; both ends have to be positive."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.from_ <= 0 or self.to <= 0:
            raise ValueError("'from' and 'to' have to be positive; use 'linear' to reach 0")

    def value(self, time: float) -> float:
        return float(self.from_ * (self.to / self.from_) ** self.progress(time))


@dataclass(frozen=True, kw_only=True)
class Stepped(Schedule, kind="stepped"):
    """Jumps: `points: [[0, 1], [1000, 0.5]]` is 1 before time 1000 and 0.5 from then on."""

    points: list[tuple[float, float]]

    def __post_init__(self) -> None:
        times = [time for time, _ in self.points]
        if not times or times != sorted(set(times)):
            raise ValueError("'points' has to be a list of [time, value] with rising times")

    def value(self, time: float) -> float:
        reached = [value for start, value in self.points if start <= time]
        return reached[-1] if reached else self.points[0][1]

    @property
    def bounds(self) -> tuple[float, float]:
        values = [value for _, value in self.points]
        return min(values), max(values)


@dataclass(frozen=True, kw_only=True)
class EmaWarmup(Schedule, kind="ema_warmup"):
    """Rises as 1 - (1 + time / inverse_gamma) ** -power to a bound: the rate of an average that soon forgets its start.

    Time counts from `start`, before which it is 0. With `inverse_gamma` and `power` 1 the average is, until the bound
    is reached, the plain mean of all weights so far. ema_pytorch and diffusers have a power of 2/3, or 3/4 for long
    runs. With an `inverse_gamma` of 14 half of the average is forgotten in a twentieth of the time so far, as in
    StyleGAN2-ADA (arXiv 2006.06676).
    """

    to: float
    power: float = 1
    inverse_gamma: float = 1
    start: float = 0

    def __post_init__(self) -> None:
        if self.power <= 0 or self.inverse_gamma <= 0:
            raise ValueError("'power' and 'inverse_gamma' have to be positive")

    def value(self, time: float) -> float:
        passed = max(0.0, time - self.start)
        return float(min(self.to, 1 - (1 + passed / self.inverse_gamma) ** -self.power))

    @property
    def bounds(self) -> tuple[float, float]:
        return min(0, self.to), self.to


@dataclass(frozen=True, kw_only=True)
class Fixed(Schedule, kind="fixed"):
    """Does not change (the ancestor's)."""

    weight: float

    def value(self, time: float) -> float:
        return self.weight

    @property
    def bounds(self) -> tuple[float, float]:
        return self.weight, self.weight


@dataclass(frozen=True, kw_only=True)
class LinearDecay(Schedule, kind="linear_decay"):
    """Falls in a straight line for a number of steps, to a bound (the ancestor's)."""

    initial_weight: float
    steps: float
    lower_bound: float
    start_step: float = 0

    def __post_init__(self) -> None:
        if self.steps <= 0:
            raise ValueError(f"'steps' has to be positive, got {self.steps:g}")

    def value(self, time: float) -> float:
        fall = (self.initial_weight - self.lower_bound) / self.steps
        return max(self.lower_bound, self.initial_weight - max(0.0, time - self.start_step) * fall)

    @property
    def bounds(self) -> tuple[float, float]:
        return self.lower_bound, max(self.lower_bound, self.initial_weight)


@dataclass(frozen=True, kw_only=True)
class Sinusoidal(Schedule, kind="sinusoidal"):
    """Swings between two bounds, from the upper one (the ancestor's)."""

    upper_weight: float
    lower_weight: float
    period: float
    start_step: float = 0

    def __post_init__(self) -> None:
        if self.period <= 0:
            raise ValueError(f"'period' has to be positive, got {self.period:g}")

    def value(self, time: float) -> float:
        swing = math.cos(2 * math.pi * max(0.0, time - self.start_step) / self.period)
        return (self.upper_weight + self.lower_weight + swing * (self.upper_weight - self.lower_weight)) / 2

    @property
    def bounds(self) -> tuple[float, float]:
        return min(self.upper_weight, self.lower_weight), max(self.upper_weight, self.lower_weight)
