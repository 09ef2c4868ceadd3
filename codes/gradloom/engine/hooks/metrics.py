"""Tell the losses: their means over each logging interval, with learning rates and speed."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from gradloom.engine.hooks.hook import Hook, Run
from gradloom.errors import Diverged


class Metrics(Hook):
    """Keeps what the iterations return, on the device, and reads it back once an interval."""

    def __init__(self, every: int) -> None:
        self.every = every
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._seconds = self._waited = 0.0
        self._iterations = 0

    def after_iteration(self, run: Run, metrics: Mapping[str, Tensor]) -> None:
        for name, value in metrics.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._iterations += 1
        run.log.tick(run.trainer.iteration)
        if run.trainer.iteration % self.every == 0 or run.last:
            self._report(run)

    def finish(self, run: Run) -> None:
        if self._iterations:
            self._report(run)

    def _report(self, run: Run) -> None:
        values = self._means()
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        for step, (optimizer, _) in run.trainer.rates.initial.items():
            values[f"lr/{step}"] = float(optimizer.param_groups[0]["lr"])
        values |= self._speed(run)
        run.log.scalars("train", run.trainer.iteration, values)
        self._sums, self._counts, self._iterations = {}, {}, 0
        if broken:
            raise Diverged(f"after iteration {run.trainer.iteration}, {', '.join(broken)} is not a finite number")

    def _means(self) -> dict[str, float]:
        """Read all means back in one transfer."""
        if not self._sums:
            return {}
        means = torch.stack([self._sums[name].float() / self._counts[name] for name in self._sums])
        return dict(zip(self._sums, means.tolist(), strict=True))

    def _speed(self, run: Run) -> dict[str, float]:
        seconds, waited = run.seconds - self._seconds, run.waited - self._waited
        self._seconds, self._waited = run.seconds, run.waited
        rate = self._iterations / max(seconds, 1e-9)
        batch_size = run.trainer.plan.datasets["train"].batch_size
        return {
            "iterations_per_second": rate,
            "samples_per_second": rate * batch_size,
            "data_wait_share": waited / max(seconds, 1e-9),
        }
