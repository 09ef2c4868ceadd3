"""The protocol of what is done besides training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gradloom.engine.data.feed import Fetched
from gradloom.engine.folder import RunFolder
from gradloom.engine.interrupts import Interrupts
from gradloom.engine.log import Kind, Log
from gradloom.engine.saving.shelf import Shelf
from gradloom.parts import hooks

if TYPE_CHECKING:
    from gradloom.engine.trainer import Trainer


@dataclass
class Run:
    """A run under way: its trainer, its folder, who listens, and where its time went."""

    trainer: Trainer
    folder: RunFolder
    log: Log
    interrupts: Interrupts = field(default_factory=Interrupts)
    hooks: dict[str, Hook] = field(default_factory=dict)  # by name, in the order in which they act
    fetched: Fetched | None = None  # the batch of the last iteration
    bad: list[int] = field(default_factory=list)  # training samples that could not be used
    seconds: float = 0.0  # spent on iterations, waiting for their data included
    waited: float = 0.0  # of these, spent waiting for data
    news: dict[str, float] = field(default_factory=dict)  # what was reported after the last iteration
    ending: str = ""  # why the run ends before its last iteration, if it does
    outcome: dict[str, str] = field(default_factory=dict)  # what to say at the end, by topic

    @property
    def last(self) -> bool:
        """Whether the last iteration of the plan is done."""
        return self.trainer.iteration >= self.trainer.plan.sections.train.niter

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of the run."""
        return {"bad": list(self.bad), "hooks": {name: hook.state() for name, hook in self.hooks.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        if state:
            self.bad = sorted({*self.bad, *state["bad"]})
            for name in self.hooks.keys() & state["hooks"].keys():
                self.hooks[name].load(state["hooks"][name])

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.folder.checkpoints)

    def report(
        self, kind: Kind, values: Mapping[str, float], notes: Mapping[str, str] | None = None,
        iteration: int | None = None,
    ) -> None:  # fmt: skip
        """Tell numbers, of now or of an iteration before, and remember them for the hooks that follow."""
        self.news |= values
        iteration = self.trainer.iteration if iteration is None else iteration
        self.log.scalars(kind, iteration, values, notes)

    def settle(self) -> None:
        """Let every hook do now what it puts off."""
        for hook in self.hooks.values():
            hook.settle(self)


class Hook:
    """Something done besides training; a hook overrides the moments it wants.

    `trainer.iteration` is the number of iterations done. What a hook has to remember over an interruption is its
    `state`, in tensors, numbers, words, lists and mappings. One that a plugin defines has a `type`, by which options
    name it; its signature is its options. Hooks act in every process; only where `trainer.world.writes` they may write
    files.
    """

    def __init_subclass__(cls, type: str | None = None) -> None:
        super().__init_subclass__()
        if type is not None:
            hooks.add(type, cls)

    def keeps(self, iteration: int) -> frozenset[str]:
        """The state keys that have to be there after an iteration, which is numbered from 0."""
        return frozenset()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of the hook."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint kept."""

    def start(self, run: Run) -> None:
        """Do what comes before the first iteration."""

    def after_iteration(self, run: Run, metrics: Mapping[str, Tensor]) -> None:
        """Do what follows an iteration."""

    def settle(self, run: Run) -> None:
        """Do now what is put off for the device to go on: a checkpoint is about to be taken."""

    def finish(self, run: Run) -> None:
        """Do what comes after the last iteration, or after an interruption."""
