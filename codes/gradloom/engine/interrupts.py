"""Stop in good order: the first signal lets the iteration end and the run save, the second stops at once.

The signals are those of Ctrl-C, SIGTERM, and of a terminal that closes, unless `nohup` has them ignored.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from gradloom.errors import RunError

_AT_ONCE = (signal.SIGINT, signal.SIGTERM)
_SIGNALS = (*_AT_ONCE, signal.SIGHUP) if sys.platform != "win32" else _AT_ONCE


class Interrupted(RunError):
    """A run that was asked to stop, and has saved."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


class Interrupts:
    """Whether the run was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.number: int | None = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        if "TORCHELASTIC_RUN_ID" in os.environ:  # a queue signals torchrun and us, and torchrun passes it on: once more
            return  # torchrun kills what takes too long
        for second in _AT_ONCE if number in _AT_ONCE else ():  # a shell and its terminal both say that they close
            signal.signal(second, signal.SIG_DFL)

    @contextmanager
    def noted(self) -> Iterator["Interrupts"]:
        """Note signals instead of dying of them; outside the main thread, where that cannot be, do nothing."""
        before = {}
        try:
            for number in _SIGNALS:
                if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                    before[number] = signal.signal(number, self._note)
        except ValueError:
            before = {}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
