"""What can be wrong with an options file, and where it is written."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple


class Mark(NamedTuple):
    """A place in an options file, counted from one; line 0 stands for a whole file or a `--set`."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def seen_from(self, other: "Mark") -> str:
        """This place as a message about the other one names it."""
        return f"line {self.line}" if self.file == other.file and self.line else str(self)


@dataclass(frozen=True)
class Fault:
    """One thing to say about the options, phrased so that its reader knows what to type instead.

    A fault refuses the file; the same shape serves for a notice, which does not.
    """

    mark: Mark
    path: str
    message: str

    def __str__(self) -> str:
        """One line, whatever characters the options hold."""
        return one_line(": ".join(filter(None, [str(self.mark), *map(_shortened, (self.path, self.message))])))


def one_line(text: str) -> str:
    """A text with escapes for what cannot be printed, such as line breaks, or names of files that are no text."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _shortened(text: str) -> str:
    """A text whose words fit on a screen, whatever was pasted into the options."""
    return re.sub(r"\S{401,}", lambda word: f"{word[0][:397]}...", text)


class UnknownName(Fault):
    """A name that nothing has, unless it belongs to a plugin that could not be brought in."""


class OptionsError(Exception):
    """Every fault found in one reading of the options, in the order of the file."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = in_order(faults)
        super().__init__("\n" + "\n".join(map(str, self.faults)))

    def __reduce__(self) -> tuple[type["OptionsError"], tuple[list[Fault]]]:
        """Let it be copied, and sent to other processes."""
        return type(self), (self.faults,)


class RunError(Exception):
    """A run that cannot start or go on for a reason that its user can mend, such as missing data."""

    @property
    def fault(self) -> Fault | None:
        """What is wrong and where in the options it stands, if it was raised with that."""
        return next((what for what in self.args if isinstance(what, Fault)), None)


class LostTouch(RunError):
    """Another process of the run is gone, or does not answer."""


class Diverged(RunError):
    """A run whose losses are no longer numbers."""


def in_order(faults: Iterable[Fault]) -> list[Fault]:
    """Sort by place, and say each thing once."""
    return sorted(dict.fromkeys(faults), key=lambda fault: fault.mark)


def closest(word: str, known: Iterable[str]) -> str | None:
    """Find the known word that was probably meant, whatever its case."""
    by_lower_case = {name.lower(): name for name in sorted(known, reverse=True)}
    close = get_close_matches(word.lower(), by_lower_case, n=1, cutoff=0.6)
    return by_lower_case[close[0]] if close else None


def suggest(word: str, known: Iterable[str]) -> str:
    """Say which known word was probably meant, or list them all when none is close."""
    known = sorted(known)
    close = closest(word, known)
    return f"did you mean {close!r}?" if close else f"known: {', '.join(known) or 'none'}"
