"""End a run whose metric no longer gets better, or gets far worse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gradloom.config.sections import EarlyStopping as Options
from gradloom.engine.hooks.hook import Hook, Run
from gradloom.errors import Diverged


class EarlyStopping(Hook):
    """Looks at each report of a metric after the warm-up."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.best: float | None = None
        self.found = 0  # the iterations done when it was
        self.waits = 0  # reports since then

    def state(self) -> dict[str, Any]:
        of = [self.options.metric, self.options.mode]
        return {"of": of, "best": self.best, "found": self.found, "waits": self.waits}

    def load(self, state: Mapping[str, Any]) -> None:
        if state["of"] == [self.options.metric, self.options.mode]:
            self.best, self.found, self.waits = state["best"], state["found"], state["waits"]

    def start(self, run: Run) -> None:
        """Look at what was measured before the first iteration; a run that had stopped has not more to do by now."""
        self._look(run)
        self._end(run)

    def after_iteration(self, run: Run, metrics: Mapping[str, Tensor]) -> None:
        self._look(run)

    def _look(self, run: Run) -> None:
        value, iteration = run.news.get(self.options.metric), run.trainer.iteration
        if value is None or iteration < self.options.warmup:
            return
        if self.best is not None and self.diverged(value):
            raise Diverged(
                f"after {iteration:,} iterations {self.options.metric} is {value:.4g}, its best was {self.best:.4g} "
                f"after {self.found:,}; early_stopping.divergence_factor is {self.options.divergence_factor:g}"
            )
        if self.best is None or self._better(value):
            self.best, self.found, self.waits = value, iteration, 0
        else:
            self.waits += 1
        self._end(run)

    def _end(self, run: Run) -> None:
        if self.options.patience and self.waits >= self.options.patience and not run.last:
            run.ending = (
                f"stopped early: {self.options.metric} has not been better than {self.best:.4g}, found after "
                f"{self.found:,} iterations, in {self.waits} reports; to go on raise early_stopping.patience"
            )

    def _better(self, value: float) -> bool:
        best, least = self.best or 0.0, self.options.min_delta
        return value < best - least if self.options.mode == "min" else value > best + least

    def diverged(self, value: float) -> bool:
        """Whether a value is so many times worse than the best; of numbers below zero, by so many times their size."""
        factor, best = self.options.divergence_factor, self.best or 0.0
        if factor is None:
            return False
        if not math.isfinite(value):
            return True
        if self.options.mode == "max" and best > 0:
            return value < best / factor
        worse = value - best if self.options.mode == "min" else best - value
        return worse > (factor - 1) * abs(best) and worse > self.options.min_delta
