"""Save now and then, and at the end."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gradloom.engine.hooks.hook import Hook, Run


class Checkpoints(Hook):
    """Writes a checkpoint every `save_checkpoint_freq` iterations and when the run ends."""

    def __init__(self, every: int | None) -> None:
        self.every = every
        self._saved = -1

    def start(self, run: Run) -> None:
        self._saved = run.trainer.iteration

    def after_iteration(self, run: Run, metrics: Mapping[str, Tensor]) -> None:
        if self.every and run.trainer.iteration % self.every == 0:
            self._save(run)

    def finish(self, run: Run) -> None:
        if self._saved != run.trainer.iteration:
            self._save(run)

    def _save(self, run: Run) -> None:
        if run.trainer.world.writes:
            run.outcome["weights"] = str(run.trainer.save(run.folder.checkpoints))
        self._saved = run.trainer.iteration
