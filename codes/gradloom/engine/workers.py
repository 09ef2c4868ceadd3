"""The processes that make batches: how they start, and what to say when one dies."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from gradloom.errors import RunError
from gradloom.plan import plan as planned

_DEATH = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? (?P<pids>[\d, ]+)\) "
    r"(?:is killed by signal: (?P<signal>[^.]*)|exited unexpectedly(?: with exit code (?P<code>\d+))?)"
)
"""What torch says of a worker that died, in a RuntimeError at any moment of the main process."""


def start_worker(number: int) -> None:
    """Leave the signals that a terminal or a scheduler sends to a whole run to the process that saves."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stay_once)


def _stay_once(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)


@contextmanager
def deaths_told(dataset: planned.Dataset) -> Iterator[None]:
    """Turn the error of a worker that died into one that says so, whatever the process is doing meanwhile."""
    try:
        yield
    except RuntimeError as error:
        how = death(error)
        if not how:
            raise
        message = f"a data worker died ({how}); often memory has run out: lower n_workers or batch_size, "
        raise RunError(dataset.recipe.node.fault(message + "or see with n_workers: 0 what happens")) from error


def death(error: BaseException | None) -> str:
    """How a worker died of which an error tells, such as `pid 12, killed by signal 9`; empty if it tells of none."""
    told = ""
    while isinstance(error, RuntimeError) and (found := _DEATH.match(str(error))):
        told = told if told and not (found["signal"] or found["code"]) else _words(found)
        error = error.__cause__
    return told


def _words(found: re.Match[str]) -> str:
    """The process and its end, the signal by its number."""
    pids = f"pid {found['pids'].strip()}"
    if found["code"]:
        return f"{pids}, exit code {found['code']}"
    if not found["signal"]:
        return pids
    text = found["signal"].strip()
    numbers = {signal.strsignal(number): int(number) for number in signal.valid_signals()}
    return f"{pids}, killed by signal {numbers.get(text, text)}"
