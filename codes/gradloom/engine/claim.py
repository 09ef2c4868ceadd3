"""One process writes into a run's folder: it locks a file there, and the system unlocks it however the process ends."""

import errno
import sys
import time
from pathlib import Path
from typing import TextIO

from gradloom.errors import RunError

_SECONDS = 5.0  # in which a process that was killed is gone
_TAKEN = (errno.EACCES, errno.EAGAIN)


def claim(file: TextIO) -> None:
    """Lock a file until it is closed. Workers do not inherit the lock; where there are no locks, nothing is done.

    Raises:
        RunError: when another process has it.
    """
    deadline = time.monotonic() + _SECONDS
    while not _locked(file):
        if time.monotonic() > deadline:
            raise RunError(
                f"another process trains in {Path(file.name).parent}; wait until it is done, end it, or give this run "
                "another name"
            )
        time.sleep(0.1)


def see_that_nobody_is_in(folder: Path) -> None:
    """See that no other process writes into a run's folder.

    Raises:
        RunError: when one does.
    """
    log = folder / "train.log"
    if log.is_file():
        with log.open("a", encoding="utf-8") as opened:
            claim(opened)


def _locked(file: TextIO) -> bool:
    if sys.platform == "win32":
        return True
    import fcntl  # which Windows has not

    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _TAKEN
    return True
