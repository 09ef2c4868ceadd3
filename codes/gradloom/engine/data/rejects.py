"""Samples that cannot be used: what messages call them, why, and how many there may be."""

import errno
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch.utils.data import Dataset

from gradloom.engine.data.workers import death
from gradloom.errors import RunError, one_line
from gradloom.plan import plan as planned

_OURS = ("gradloom.engine.data.samples", "gradloom.engine.data.feed", "gradloom.plan.plan")
"""Modules that call a dataset, where its mistakes are not."""


@runtime_checkable
class Named(Protocol):
    """A dataset that has a name for each sample, such as its file."""

    def name_of(self, index: int) -> str:
        """The name of a sample, for messages."""


@dataclass(frozen=True)
class Bad:
    """A sample that cannot be used: which, what messages call it, and why."""

    index: int
    name: str
    why: str
    innocent: bool = False  # whether it is the machine that cannot


class Rejects:
    """The samples found bad so far, each said once; more than `most` end the run."""

    def __init__(self, dataset: planned.Dataset, say: Callable[[str], None], indices: Iterable[int] = ()) -> None:
        self._node, self.most, self._say = dataset.recipe.node, dataset.max_bad, say
        self._seen = set(indices)

    @property
    def indices(self) -> list[int]:
        """Which samples, for a checkpoint."""
        return sorted(self._seen)

    def note(self, bad: Sequence[Bad], batch: Mapping[str, Any]) -> None:
        """Count the bad samples of a batch.

        Raises:
            RunError: when there are more than the options allow, or the batch could not be filled without them, or it
                is the machine that cannot.
        """
        if innocent := next((one for one in bad if one.innocent), None):
            raise RunError(self._node.fault(innocent.why))
        beyond = None
        for one in bad:
            if one.index in self._seen:
                continue
            self._seen.add(one.index)
            if len(self._seen) <= self.most:
                count = f"({len(self._seen)} of at most {self.most})"
                self._say(f"{self._node.path}: {_told(one)}; another takes its place {count}")
            beyond = beyond or (one if len(self._seen) > self.most else None)
        if beyond:
            raise RunError(self._node.fault(self._too_many(beyond)))
        if not batch:
            last = f"; the last: {_told(bad[-1])}" if bad else ""
            raise RunError(self._node.fault(f"no sample was found to fill a batch with{last}; mend the data"))

    def _too_many(self, beyond: Bad) -> str:
        count = len(self._seen)
        if count == 1:
            return f"{_told(beyond)}; mend or remove it, or allow some with max_bad"
        return (
            f"{_told(beyond)}; that makes {count}, and max_bad allows {self.most}; mend or remove them, or allow more"
        )


def _told(bad: Bad) -> str:
    return one_line(f"{bad.name} cannot be used: {bad.why}")


def name_of(dataset: Dataset[Any], index: int) -> str:
    """What messages call a sample, such as `sample 17 (/data/cat.png)`."""
    if not isinstance(dataset, Named):
        return f"sample {index}"
    try:
        return f"sample {index} ({dataset.name_of(index)})"
    except Exception as error:
        if death(error):
            raise
        return f"sample {index}"


def lacking(error: Exception) -> str:
    """What the machine has too little of, where that is why a sample cannot be drawn or sent; empty where it is not."""
    text = str(error)
    if "/torch_" in text and isinstance(error, RuntimeError):  # what torch calls its pieces of shared memory
        why = text.partition(">: ")[2] or text
        return (
            f"there is no shared memory to send batches through ({why}); give /dev/shm more room, or write n_workers: 0"
        )
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many files are open; allow more with 'ulimit -n 4096', or lower n_workers"
    return ""


def describe(error: Exception, module: str) -> str:
    """An error in one line; where it may be a mistake in the code of a module, with the place there."""
    text = " ".join(str(error).split())
    words = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return words if isinstance(error, RunError | OSError | ValueError) else words + _place(error, module)


def _place(error: Exception, module: str) -> str:
    """Where an error arose: the innermost line of a module, or of any but our own."""
    frames = [(frame.f_globals.get("__name__"), frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    within = [one for one in frames if one[0] == module] or [one for one in frames if one[0] not in _OURS]
    if not within:
        return ""
    _, frame, line = within[-1]
    return f" (in {frame.f_code.co_filename.rpartition('/')[2]}, line {line})"
