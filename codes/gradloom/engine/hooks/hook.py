"""The protocol of what is done besides training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from gradloom.engine.folder import RunFolder
from gradloom.engine.log import Log

if TYPE_CHECKING:
    from gradloom.engine.trainer import Trainer


@dataclass
class Run:
    """A run under way: its trainer, its folder, who listens, and where its time went."""

    trainer: Trainer
    folder: RunFolder
    log: Log
    seconds: float = 0.0  # spent on iterations, waiting for their data included
    waited: float = 0.0  # of these, spent waiting for data
    outcome: dict[str, str] = field(default_factory=dict)  # what to say at the end, by topic

    @property
    def last(self) -> bool:
        """Whether the last iteration of the plan is done."""
        return self.trainer.iteration >= self.trainer.plan.sections.train.niter


class Hook:
    """Something done besides training; a hook overrides the moments it wants.

    `trainer.iteration` is the number of iterations done.
    """

    def keeps(self, iteration: int) -> frozenset[str]:
        """The state keys that have to be there after an iteration, which is numbered from 0."""
        return frozenset()

    def start(self, run: Run) -> None:
        """Do what comes before the first iteration."""

    def after_iteration(self, run: Run, metrics: Mapping[str, Tensor]) -> None:
        """Do what follows an iteration."""

    def finish(self, run: Run) -> None:
        """Do what comes after the last iteration, or after an interruption."""
