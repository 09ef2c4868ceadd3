"""What a run tells: numbers, pictures and sentences, to everyone who listens."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

from torch import Tensor

from gradloom.engine.claim import claim
from gradloom.engine.saving import disk

Kind = Literal["train", "eval", "hook"]  # means of training, what was measured, and what hooks of plugins report


class Sink(Protocol):
    """Somewhere that a run's news go."""

    def scalars(self, kind: Kind, iteration: int, values: Mapping[str, float], notes: Mapping[str, str]) -> None:
        """Take numbers in, with what there is to say about some of them."""

    def image(self, key: str, iteration: int, picture: Tensor) -> None:
        """Take in a picture: (channels, height, width) in [0, 1]."""

    def say(self, text: str) -> None:
        """Take in a sentence."""

    def tick(self, iteration: int) -> None:
        """Learn that an iteration is done."""

    def keep(self) -> None:
        """Have the disk hold what was told so far."""

    def rewind(self, iteration: int, measured: bool) -> None:
        """Learn that the run goes on from an iteration, so that what was told of later ones is void.

        What was measured after it is void too if it was not `measured` by then, but since.
        """

    def close(self) -> None:
        """Write out what is held back."""


class Log:
    """All sinks of a run; `told` makes of each sentence what they may be told."""

    def __init__(self, sinks: Sequence[Sink], told: Callable[[str], str] = str) -> None:
        self.sinks, self.told = tuple(sinks), told

    def scalars(
        self, kind: Kind, iteration: int, values: Mapping[str, float], notes: Mapping[str, str] | None = None
    ) -> None:
        told = {name: self.told(note) for name, note in (notes or {}).items()}
        for sink in self.sinks:
            sink.scalars(kind, iteration, values, told)

    def image(self, key: str, iteration: int, picture: Tensor) -> None:
        for sink in self.sinks:
            sink.image(key, iteration, picture)

    def say(self, text: str) -> None:
        for sink in self.sinks:
            sink.say(self.told(text))

    def tick(self, iteration: int) -> None:
        for sink in self.sinks:
            sink.tick(iteration)

    def keep(self) -> None:
        for sink in self.sinks:
            sink.keep()

    def rewind(self, iteration: int, measured: bool) -> None:
        for sink in self.sinks:
            sink.rewind(iteration, measured)

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()


class Silent:
    """A sink that lets everything pass; others override what they want."""

    def scalars(self, kind: Kind, iteration: int, values: Mapping[str, float], notes: Mapping[str, str]) -> None:
        """Let it pass."""

    def image(self, key: str, iteration: int, picture: Tensor) -> None:
        """Let it pass."""

    def say(self, text: str) -> None:
        """Let it pass."""

    def tick(self, iteration: int) -> None:
        """Let it pass."""

    def keep(self) -> None:
        """Hold nothing that could be lost."""

    def rewind(self, iteration: int, measured: bool) -> None:
        """Take back nothing."""

    def close(self) -> None:
        """Hold nothing back."""


class Lines(Silent):
    """Appends to `metrics.jsonl`, one object for each report, and to `train.log`.

    A report of an iteration that the run does again moves to `metrics.superseded.jsonl`, so that `metrics.jsonl` tells
    of each iteration once.
    """

    def __init__(self, folder: Path) -> None:
        self._rows, self._superseded = folder / "metrics.jsonl", folder / "metrics.superseded.jsonl"
        self._numbers = self._rows.open("a", encoding="utf-8")
        self._words = (folder / "train.log").open("a", encoding="utf-8", errors="backslashreplace")
        claim(self._words)

    def scalars(self, kind: Kind, iteration: int, values: Mapping[str, float], notes: Mapping[str, str]) -> None:
        row: dict[str, Any] = {"kind": kind, "iteration": iteration, "time": round(time.time(), 3), **values}
        _append(self._numbers, json.dumps({**row, "protocol": dict(notes)} if notes else row))
        _append(self._words, line(kind, iteration, values, notes))

    def say(self, text: str) -> None:
        _append(self._words, text)

    def keep(self) -> None:
        for opened in (self._numbers, self._words):
            os.fsync(opened.fileno())

    def rewind(self, iteration: int, measured: bool) -> None:
        self._numbers.close()
        kept, later = _parted(self._rows.read_text(encoding="utf-8"), iteration, measured)
        if later:
            with self._superseded.open("a", encoding="utf-8") as opened:
                opened.write("".join(later))
            disk.replace(self._rows, "".join(kept))
        self._numbers = self._rows.open("a", encoding="utf-8")

    def close(self) -> None:
        self._numbers.close()
        self._words.close()


def _append(file: TextIO, text: str) -> None:
    with disk.named(Path(file.name)):
        file.write(text + "\n")
        file.flush()


def _parted(text: str, iteration: int, measured: bool) -> tuple[list[str], list[str]]:
    """Part lines into those that stand, and those of later iterations, measured since or torn by a crash."""
    kept: list[str] = []
    later: list[str] = []
    for row in text.splitlines(keepends=True):
        try:
            told = json.loads(row)
            before = told["iteration"] < iteration + (measured or told["kind"] != "eval")
            done = row.endswith("\n") and before
        except (ValueError, KeyError, TypeError):
            done = False
        (kept if done else later).append(row if row.endswith("\n") else row + "\n")
    return kept, later


def line(kind: Kind, iteration: int, values: Mapping[str, float], notes: Mapping[str, str]) -> str:
    """One report as a line of text."""
    terms = [f"{name} {number:.4g}" + (f" ({notes[name]})" if name in notes else "") for name, number in values.items()]
    return f"{iteration:>8,}  {'measured: ' if kind == 'eval' else ''}{'  '.join(terms)}"
