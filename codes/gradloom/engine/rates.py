"""The learning rates of an iteration."""

from collections.abc import Callable, Mapping

from torch.optim import Optimizer

from gradloom.config.schedules import Schedule, at
from gradloom.plan.plan import Plan
from gradloom.plan.schemes import Scheme


class Rates:
    """Sets each optimizer's learning rate: linear warm-up, then the scheme, or the schedule that the rate itself is."""

    def __init__(self, plan: Plan, optimizers: Mapping[str, Optimizer]) -> None:
        self.scheme: Scheme | None = plan.lr_scheme.build() if plan.lr_scheme else None
        self.warmup = plan.sections.train.warmup_iter
        self.restarts = set(plan.sections.train.restarts) if plan.sections.train.clear_state else set()
        self.initial = {step.name: (optimizers[step.name], step.optimizer.lr) for step in plan.steps if step.optimizer}
        scheduled = any(isinstance(initial, Schedule) for _, initial in self.initial.values())
        self.factor = 1.0  # of every rate; a run that returns to a checkpoint may lower it
        self._constant = self.scheme is None and self.warmup <= 0 and not scheduled and not self.restarts

    def apply(self, iteration: int, epoch_length: Callable[[], int]) -> None:
        """Set the rates of an iteration."""
        if self._constant and self.factor == 1:
            return
        for optimizer, initial in self.initial.values():
            rate = self._rate(initial, iteration, epoch_length)
            if iteration < self.warmup:
                rate = self._rate(initial, 0, epoch_length) * iteration / self.warmup
            for group in optimizer.param_groups:
                group["lr"] = rate * self.factor
            if iteration in self.restarts and iteration > 0:
                optimizer.state.clear()

    def _rate(self, initial: float | Schedule, iteration: int, epoch_length: Callable[[], int]) -> float:
        if isinstance(initial, Schedule):
            return at(initial, iteration, epoch_length() if initial.unit == "epoch" else 1)
        return self.scheme.lr(initial, iteration) if self.scheme else initial
