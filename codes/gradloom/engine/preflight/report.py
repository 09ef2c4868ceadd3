"""What there is to say of a run before it starts."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch.utils.data import Dataset

from gradloom.engine.preflight.memory import Memory
from gradloom.engine.preflight.room import Room
from gradloom.engine.preflight.traffic import Averaged, told
from gradloom.engine.preflight.words import amount
from gradloom.errors import Fault


@dataclass(frozen=True)
class Row:
    """A network in numbers."""

    name: str
    which_model: str
    parameters: int
    trained: int
    bytes: int


@dataclass
class Report:
    """What was found: with faults, a run would fail; numbers that they hide are None."""

    faults: list[Fault] = field(default_factory=list)
    notices: list[Fault] = field(default_factory=list)
    datasets: dict[str, Dataset[Any]] = field(default_factory=dict)  # opened, by phase
    networks: list[Row] = field(default_factory=list)
    memory: Memory | None = None
    room: Room | None = None
    traffic: list[Averaged] = field(default_factory=list)  # of each step, between the processes of a run
    samples: list[str] = field(default_factory=list)  # lines on the datasets and their first samples

    def lines(self) -> list[str]:
        """What `gradloom check` prints."""
        return [*self.samples, *self._networks(), *self._memory(), *self._traffic(), *self._room()]

    def _networks(self) -> Iterator[str]:
        for row in self.networks:
            trained = "all" if row.trained == row.parameters else f"{row.trained:,}" if row.trained else "none"
            yield (
                f"{row.name}: {row.which_model}, {row.parameters:,} parameters, {trained} trained, {amount(row.bytes)}"
            )

    def _memory(self) -> Iterator[str]:
        if memory := self.memory:
            parts = {
                "weights": memory.weights,
                "averages": memory.averages,
                "optimizers": memory.optimizers,
                "gradients": memory.gradients,
                "activations": memory.activations,
            }
            terms = ", ".join(f"{name} {amount(size)}" for name, size in parts.items() if size)
            about = "about" if memory.whole else "more than"
            yield f"memory: {about} {amount(memory.peak)} at the peak of an iteration ({terms})"

    def _traffic(self) -> Iterator[str]:
        if self.traffic:
            yield told(self.traffic)

    def _room(self) -> Iterator[str]:
        if room := self.room:
            kept = "" if room.kept == room.written else f", of which {room.kept} stay"
            count = f"{room.written} to come{kept}" if room.written > 1 else "one to come"
            yield (
                f"checkpoints: {amount(room.checkpoint)} each, {count}; {amount(room.free)} are free in {room.place}"
            )
