"""The learning rates of an iteration."""

from collections.abc import Callable, Mapping

from torch.optim import Optimizer

from gradloom.config.schedules import Schedule, Scheduled, at
from gradloom.plan.plan import Optimizer as Planned
from gradloom.plan.plan import Plan
from gradloom.plan.schemes import Scheme


class Rates:
    """Sets learning rates: linear warm-up, then the scheme, or the schedule that a rate itself is."""

    def __init__(self, plan: Plan, optimizers: Mapping[str, Optimizer]) -> None:
        self.scheme: Scheme | None = plan.lr_scheme.build() if plan.lr_scheme else None
        self.warmup = plan.sections.train.warmup_iter
        self.restarts = set(plan.sections.train.restarts) if plan.sections.train.clear_state else set()
        self.factor = 1.0  # of every rate; a run that returns to a checkpoint may lower it
        self._optimizers = optimizers
        self._initial = {step.name: _initial(step.optimizer) for step in plan.steps if step.optimizer}
        rates = [rate for initial in self._initial.values() for _, rate in initial.values()]
        scheduled = any(isinstance(rate, Schedule) for rate in rates)
        self._constant = self.scheme is None and self.warmup <= 0 and not scheduled and not self.restarts

    def apply(self, iteration: int, epoch_length: Callable[[], int]) -> None:
        """Set the rates of an iteration."""
        if self._constant and self.factor == 1:
            return
        for step, initial in self._initial.items():
            optimizer = self._optimizers[step]
            for group in optimizer.param_groups:
                rate = self._rate(*initial[group.get("name", "")], iteration, epoch_length)
                group["lr"] = rate * group.get("share", 1.0) * self.factor
            if iteration in self.restarts and iteration > 0:
                optimizer.state.clear()

    def now(self) -> dict[str, float]:
        """The rates as they are: `lr/<step>`, and `lr/<step>/<group>` of groups that have their own."""
        rates: dict[str, float] = {}
        for step in self._initial:
            for group in self._optimizers[step].param_groups:
                name = f"lr/{step}/{group['name']}" if "name" in group else f"lr/{step}"
                rates.setdefault(name, float(group["lr"]))
        return rates

    def _rate(self, place: int, initial: Scheduled, iteration: int, epoch_length: Callable[[], int]) -> float:
        """The rate of the group at a place; warm-up goes to what it is in iteration 0."""
        warming = iteration < self.warmup
        when = 0 if warming else iteration
        if isinstance(initial, Schedule):
            rate = at(initial, when, epoch_length() if initial.unit == "epoch" else 1)
        else:
            rate = self.scheme.lr(initial, when, place) if self.scheme else initial
        return rate * iteration / self.warmup if warming else rate


def _initial(planned: Planned) -> dict[str, tuple[int, Scheduled]]:
    """The rates by the names of groups, each with its place; that without a name is the first."""
    named = {group.name: (place, group.lr) for place, group in enumerate(planned.groups, start=1)}
    return {"": (0, planned.lr), **named}
