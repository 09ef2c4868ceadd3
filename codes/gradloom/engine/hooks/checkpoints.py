"""Save now and then, and at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

from torch import Tensor

from gradloom.config.sections import Checkpoints as Options
from gradloom.engine.hooks.hook import Hook, Run
from gradloom.engine.saving import disk
from gradloom.engine.saving.checkpoint import Checkpoint, glance
from gradloom.engine.saving.shelf import Shelf
from gradloom.engine.saving.snapshot import HostMemory, take
from gradloom.engine.saving.writing import Snapshot, save, write


class Checkpoints(Hook):
    """Writes a checkpoint every so many iterations, when the metric to watch is better than before, and at the end.

    With `async`, a thread copies everything to host memory while the next iteration runs forward and backward, whose
    update waits for that, and then writes; what goes wrong there is raised at the next iteration. Networks that change
    themselves, such as by following another, wait before the iteration.
    """

    def __init__(self, options: Options, every: int | None, at_start: bool) -> None:
        self.options, self.every, self.at_start = options, every, at_start
        self.best = math.inf  # of the metric to watch, or of its negative if more is better
        self._host = HostMemory()
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[object] | None = None

    def state(self) -> dict[str, Any]:
        return {"of": self._watched(), "best": self.best}

    def load(self, state: Mapping[str, Any]) -> None:
        if state["of"] == self._watched():
            self.best = state["best"]

    def _watched(self) -> list[str]:
        return [self.options.best.metric, self.options.best.mode] if self.options.best else []

    def start(self, run: Run) -> None:
        """Save what an evaluation before the first iteration found, and where there is nothing yet to return to."""
        better, put_off = self._better(run), run.news and run.trainer.iteration
        if better or put_off or (self.at_start and not self._saved(run)):
            self.save(run)

    def after_iteration(self, run: Run, metrics: Mapping[str, Tensor]) -> None:
        if self._writing and self._writing.done():
            self.wait()
        better = self._better(run)
        if better or (self.every and run.trainer.iteration % self.every == 0):
            self.save(run)

    def finish(self, run: Run) -> None:
        """Save; no process ends before it is done, or a launcher may end them all."""
        self.wait()
        if not self._saved(run):
            self.save(run)
        run.trainer.world.once(self.wait)

    def _saved(self, run: Run) -> bool:
        """Whether there is a checkpoint of this iteration; the first process looks for all."""
        here = any(one.iteration == run.trainer.iteration for one in run.shelf.complete())
        return run.trainer.world.first(here)

    def wait(self) -> None:
        """Wait for what is being written.

        Raises:
            RunError: when it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def _better(self, run: Run) -> bool:
        """Take in what was measured, and see whether it is the best so far."""
        watched = self.options.best
        if watched is None or watched.metric not in run.news:
            return False
        value = run.news[watched.metric] if watched.mode == "min" else -run.news[watched.metric]
        if not value < self.best:
            return False
        self.best = value
        run.outcome["best"] = (
            f"{watched.metric} {run.news[watched.metric]:.4g} after {run.trainer.iteration:,} iterations"
        )
        return True

    def save(self, run: Run) -> None:
        """Write a checkpoint, or have it written."""
        self.wait()
        run.settle()
        run.log.keep()
        snapshot = take(run.trainer, run.state(), run.news)
        if snapshot.spread:
            write(snapshot, run.shelf.folder, run.trainer.world)
        if not run.trainer.world.writes:
            return
        run.outcome["weights"] = str(run.folder.checkpoints / str(snapshot.iteration))
        if self.options.async_:
            run.trainer.read = read = Event()
            self._writing = self._thread.submit(self._copy_and_write, snapshot, read, run.shelf, run.folder.path)
        else:
            self._write(snapshot, run.shelf, run.folder.path)

    def _copy_and_write(self, snapshot: Snapshot, read: Event, shelf: Shelf, folder: Path) -> None:
        try:
            held = self._host.hold(snapshot)
        finally:
            read.set()
        self._write(held, shelf, folder)

    def _write(self, snapshot: Snapshot, shelf: Shelf, folder: Path) -> None:
        written = shelf.folder / str(snapshot.iteration) if snapshot.spread else write(snapshot, shelf.folder)
        if self.options.models:
            write_models(snapshot, folder / "models", glance(written))
        shelf.thin(self.options)


def write_models(snapshot: Snapshot, folder: Path, written: Checkpoint) -> None:
    """Write each network as the ancestor did: `<iteration>_<network>.pth`, a plain mapping of names to tensors.

    One that is spread is read from the checkpoint that has just been written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, weights in snapshot.weights.items():
        file = folder / f"{snapshot.iteration}_{name}.pth"
        scratch = file.with_suffix(".partial")
        tensors = written.weights(name) if weights.spread else weights.tensors
        disk.write(scratch, lambda to, tensors=tensors: save(dict(tensors), to))  # type: ignore[misc]
        disk.rename(scratch, file)
