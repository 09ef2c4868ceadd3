"""The folder of a run's checkpoints: which is the latest, which the best, and which may go.

Nothing but the checkpoints themselves is asked, so there is no pointer that could be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from gradloom.config.sections import Best, Checkpoints
from gradloom.engine.saving import disk
from gradloom.engine.saving.checkpoint import Checkpoint, Damaged, examine, glance


class Shelf:
    """A folder of checkpoints, each named by its iterations; names that begin with a dot are on their way in or out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def settle(self) -> None:
        """Finish what a run that was killed had begun: keep what is complete, under its own name; remove the rest."""
        for suffix in ("partial", "replaced", "removed"):  # in the order of preference for one iteration
            for scratch in sorted(self.folder.glob(f".*.{suffix}")):
                final = self.folder / scratch.name.split(".")[1]
                if suffix != "removed" and not final.exists() and _complete(scratch):
                    disk.rename(scratch, final)
                else:
                    disk.discard(scratch)

    def complete(self) -> Iterator[Checkpoint]:
        """The complete checkpoints, the latest first."""
        if self.folder.is_dir():
            names = [one for one in self.folder.iterdir() if one.name.isdecimal()]
            for folder in sorted(names, key=lambda one: -int(one.name)):
                if _complete(folder):
                    yield glance(folder)

    def latest(self, say: Callable[[str], None], sound: bool = False) -> Checkpoint | None:
        """The latest checkpoint that is unharmed, byte for byte; one that is not is said, by name, and passed over.

        With `sound`, one whose weights were finite and its last updates not skipped.
        """
        folders = [one for one in self.folder.iterdir() if one.name.isdecimal()] if self.folder.is_dir() else []
        for folder in sorted(folders, key=lambda one: -int(one.name)):
            try:
                checkpoint = examine(folder)
            except Damaged as error:
                say(f"{error}; looking for the one before")
                continue
            if checkpoint.sound or not sound:
                return checkpoint
        return None

    def best(self, best: Best) -> Checkpoint | None:
        """The checkpoint with the best value of a metric; the earliest of equals."""
        sign = 1 if best.mode == "min" else -1
        measured = [one for one in self.complete() if best.metric in one.manifest["metrics"]]
        return min(measured, key=lambda one: (sign * one.manifest["metrics"][best.metric], one.iteration), default=None)

    def set_aside(self, after: int) -> list[str]:
        """Rename checkpoints of more iterations than `after`, which a run that returns there makes anew."""
        renamed = []
        for checkpoint in list(self.complete()):
            if checkpoint.iteration > after:
                number = 1
                while (target := self.folder / f"{checkpoint.folder.name}.abandoned-{number}").exists():
                    number += 1
                disk.rename(checkpoint.folder, target)
                renamed.append(target.name)
        return renamed

    def thin(self, options: Checkpoints) -> None:
        """Remove the checkpoints that the options do not keep; the latest always stays."""
        if options.keep_last is None:
            return
        everything = list(self.complete())
        kept = {one.iteration for one in everything[: options.keep_last]}
        if options.keep_every:
            kept |= {one.iteration for one in everything if one.iteration % options.keep_every == 0}
        if options.best and (best := self.best(options.best)):
            kept.add(best.iteration)
        for left in self.folder.glob(".*.removed"):
            disk.discard(left)
        for checkpoint in everything:
            going = self.folder / f".{checkpoint.folder.name}.removed"
            if checkpoint.iteration not in kept and not going.exists():
                disk.rename(checkpoint.folder, going)
                disk.discard(going)


def _complete(folder: Path) -> bool:
    try:
        glance(folder)
    except Damaged:
        return False
    return True
