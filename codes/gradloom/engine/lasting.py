"""Output that outlives whoever reads it: a run goes on when its terminal closes, or the program behind a pipe ends."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

_GONE = (errno.EPIPE, errno.EIO)  # what a pipe and a terminal say when they are closed


class Lasting:
    """A stream as it is; once it cannot be written to, what it is told goes nowhere. A run's `train.log` has it all."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._let_go(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._let_go(error)

    def _let_go(self, error: OSError) -> None:
        """Let what is held back, and all that follows, go nowhere, if nobody is there to read it."""
        if error.errno not in _GONE:
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def lasting() -> Iterator[None]:
    """Within it, the standard streams may break without anybody noticing."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, Lasting(one)) if one else one for one in before)
    try:
        yield
    finally:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        sys.stdout, sys.stderr = before
