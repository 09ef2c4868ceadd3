"""The processes that make batches: how they start, and what to say when one dies."""

import atexit
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from types import FrameType

from gradloom.errors import RunError
from gradloom.plan import plan as planned

_DEATH = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? (?P<pids>[\d, ]+)\) "
    r"(?:is killed by signal: (?P<signal>[^.]*)|exited unexpectedly(?: with exit code (?P<code>\d+))?)"
)
"""What torch says of a worker that died, in a RuntimeError at any moment of the main process."""


def start_worker(number: int) -> None:
    """Leave what a terminal sends to a whole run to the process that saves, and end soon after that process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stay_once)  # a scheduler may send it to each process by itself
    if sys.platform != "win32":
        os.setpgid(0, 0)
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _stay_once(number: int, frame: FrameType | None) -> None:
    """Leave the first signal to the process that saves, and heed the second, which may be that process's own."""
    signal.signal(number, signal.SIG_DFL)


def _follow(parent: int) -> None:
    """End when the parent has; torch's workers look too, but may then wait for ever for somebody to read the rest."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


@contextmanager
def deaths_told(dataset: planned.Dataset) -> Iterator[None]:
    """Turn the error of a worker that died into one that says so, whatever the process is doing meanwhile."""
    try:
        yield
    except RuntimeError as error:
        how = death(error)
        if not how:
            raise
        raise died(dataset, how) from error


def _end_those_left() -> None:
    for other in active_children():
        other.kill()


def died(dataset: planned.Dataset, how: str) -> RunError:
    """What to say of a worker that died; others that wait for a lock it held do not keep this process at its end."""
    atexit.register(_end_those_left)
    message = f"a data worker died ({how}); often memory has run out: lower n_workers or batch_size, "
    return RunError(dataset.recipe.node.fault(message + "or see with n_workers: 0 what happens"))


@contextmanager
def watched(dataset: planned.Dataset, workers: Sequence[BaseProcess]) -> Iterator[None]:
    """Turn the errors of a loader whose worker dies, lost connections among them, into one that says how it died."""
    try:
        yield
    except (OSError, EOFError, RuntimeError) as error:
        told = death(error)
        if isinstance(error, RuntimeError) and not told:
            raise
        how = _end_of(workers) or told
        if not how:
            raise
        raise died(dataset, how) from error


def _end_of(workers: Sequence[BaseProcess]) -> str:
    """How one of the processes ended; it may be about to."""
    deadline = time.monotonic() + 5
    while all(worker.is_alive() for worker in workers):
        if time.monotonic() > deadline:
            return ""
        time.sleep(0.05)
    ended = next(worker for worker in workers if not worker.is_alive())
    code = ended.exitcode or 0
    return f"pid {ended.pid}, " + (f"killed by signal {-code}" if code < 0 else f"exit code {code}")


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
