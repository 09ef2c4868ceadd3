"""What a launcher tells each process, and where they find one another, also when `torchrun` starts them again."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from threading import Thread

from torch.distributed import PrefixStore, Store, TCPStore, rendezvous  # type: ignore[attr-defined]

from gradloom.errors import RunError

_LAST_WORDS = "last words"
_SECONDS = 5  # in which who keeps them answers, or is gone


def numbers() -> tuple[int, int, int]:
    """How many processes there are, the number of this one, and that among those of its machine.

    Raises:
        RunError: when the environment tells what cannot be.
    """
    processes, number, local = _told("WORLD_SIZE", 1), _told("RANK", 0), _told("LOCAL_RANK", 0)
    if number >= processes:
        raise RunError(
            f"RANK is {number} and WORLD_SIZE {processes}, but processes are numbered from 0; start all with torchrun, "
            "or unset both"
        )
    return processes, number, local


def _told(variable: str, otherwise: int) -> int:
    text = os.environ.get(variable) or str(otherwise)
    if not text.isdecimal():
        raise RunError(
            f"the environment's {variable} is {text!r}, not a whole number; start all with torchrun, or unset it"
        )
    return int(text)


def launcher() -> TCPStore | None:
    """What `torchrun` remembers as long as it runs, if it started this process."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, wait_for_workers=False)


def meeting_place(number: int, patience: timedelta) -> tuple[Store, "LastWords"]:
    """Where processes find one another's addresses, which the first of them keeps, and one another's last words."""
    if start := launcher():
        place = _made_anew(start, number, patience)
        return place, LastWords(PrefixStore(f"gradloom/{place.port}", start))
    met, _, _ = next(rendezvous("env://", timeout=patience))
    met.set_timeout(patience)
    return met, LastWords(PrefixStore("gradloom", met))


def _made_anew(start: TCPStore, number: int, patience: timedelta) -> TCPStore:
    """A place that is made each time that processes are started.

    What the launcher remembers holds the addresses of processes that have ended, which one would wait for in vain.
    """
    address, key = os.environ["MASTER_ADDR"], "gradloom/meeting place"
    if number == 0:
        place = TCPStore(address, 0, is_master=True, wait_for_workers=False, timeout=patience)
        start.set(key, str(place.port))
        return place
    start.set_timeout(patience)
    end = time.monotonic() + patience.total_seconds()
    while not _answers(address, port := int(start.get(key))) and time.monotonic() < end:
        time.sleep(0.2)  # nobody is there any more, and the first process has not said its new place yet
    return TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=patience)


def _answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=5):
            return True
    except OSError:
        return False


class LastWords:
    """Why a process ends, kept for the others by the launcher, or without one by the first process while it lives."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def say(self, words: str) -> None:
        """Leave the words, unless another process has left some."""
        _in_time(lambda: self._store.compare_set(_LAST_WORDS, "", words))

    def heard(self) -> str:
        """The first words that were left; empty if there are none, or nobody keeps them any more."""
        found: list[bytes] = []

        def look() -> None:
            if self._store.check([_LAST_WORDS]):
                found.append(self._store.get(_LAST_WORDS))

        _in_time(look)
        return b"".join(found).decode()


def _in_time(ask: Callable[[], object]) -> None:
    """Ask who keeps something, who may have ended, or be silent."""

    def attempt() -> None:
        with suppress(RuntimeError):
            ask()

    asking = Thread(target=attempt, daemon=True)
    asking.start()
    asking.join(_SECONDS)
