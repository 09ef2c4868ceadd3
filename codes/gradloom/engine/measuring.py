"""Show evaluators the validation set: each process measures a share of its batches, the first adds up what all found.

What is random about a batch follows from (`eval.seed`, its number), and what was found is added in the order of the
batches. So the sums of many processes are, to the bit, those of one.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gradloom.engine import build
from gradloom.engine.accord import Accord
from gradloom.engine.batches import split
from gradloom.engine.buffers import averaged
from gradloom.engine.calls import Bound
from gradloom.engine.data.feed import Validation
from gradloom.engine.data.order import mix
from gradloom.engine.data.rejects import Rejects
from gradloom.engine.data.samples import Portion, random_numbers_put_aside
from gradloom.engine.interrupts import Interrupts
from gradloom.errors import RunError
from gradloom.parts import Evaluator
from gradloom.plan.plan import Call, Measure
from gradloom.raised import placed

if TYPE_CHECKING:
    from gradloom.engine.trainer import Trainer

_CPU = torch.device("cpu")


class Abandoned(Exception):
    """The run was asked to stop while it measured; all processes raise it."""


class Measuring:
    """Evaluators that look at the same samples of the same networks, and all that they are to be shown."""

    def __init__(
        self, trainer: Trainer, measure: Measure, calls: Collection[Call[Evaluator]], batches: Validation,
        rejects: Rejects, interrupts: Interrupts | None = None,
    ) -> None:  # fmt: skip
        self.trainer, self.world, self.accord = trainer, trainer.world, Accord(trainer.world)
        self.batches, self.rejects, self.interrupts = batches, rejects, interrupts or Interrupts()
        self.keys, self.seed = sorted(measure.inputs), trainer.plan.sections.eval.seed
        known = build.named(trainer.networks, trainer.emas)
        if measure.stands_in:
            known[measure.stands_in.removesuffix(".ema")] = known[measure.stands_in]
        self.injectors = {call.part: Bound(call, known) for call in measure.at(trainer.iteration)}
        self.evaluators = {call.part: Bound(call, known) for call in calls}
        self.modules = [*known.values(), *self.injectors]

    @torch.no_grad()
    def run(self) -> None:
        """Show every batch to the evaluators; the first process can then say what they found.

        Raises:
            RunError: when more samples are bad than the options allow, or another process failed.
            Abandoned: when some process was asked to stop.
        """
        for part in (*self.injectors, *self.evaluators):
            part.advance(self.trainer.iteration, self.trainer.iterations_per_epoch)
        for evaluator, bound in self.evaluators.items():
            with placed(bound.where):
                evaluator.reset()
            _keep_apart(evaluator)
        devices = [self.world.device] if self.world.device.type == "cuda" else []
        noise, device_noise = random_numbers_put_aside(), torch.random.fork_rng(devices)
        buffers = averaged(self.world, dict.fromkeys(self.modules))
        with buffers, noise, device_noise, measuring(self.modules), self.trainer.precision.cast():
            for shares, evaluators in self._passes():
                for start in range(0, len(self.batches), shares):
                    self._round(range(len(self.batches))[start : start + shares], evaluators)
        self.accord.agree(None)

    def _passes(self) -> Iterator[tuple[int, Mapping[Evaluator, Bound]]]:
        """How many batches to measure at a time, for which evaluators; those that cannot add see each everywhere."""
        if self.world.processes == 1:
            yield 1, self.evaluators
            return
        for shares, adds in ((self.world.processes, True), (1, False)):
            if some := {part: bound for part, bound in self.evaluators.items() if part.adds is adds}:
                yield shares, some

    def _round(self, numbers: Sequence[int], evaluators: Mapping[Evaluator, Bound]) -> None:
        """Measure some batches at a time, one in each process, and add up what was found.

        A process for which none is left measures the last of them too, which does not count: so all call their
        networks equally often, as sharded ones need.
        """
        own = numbers[min(self.world.number, len(numbers) - 1)]
        portion = self.accord.attempt(lambda: self.batches[own]) or Portion({})
        reports = self.accord.agree((portion.bad, dict.fromkeys(portion.batch), self.interrupts.number is not None))
        if any(stop for _, _, stop in reports):
            raise Abandoned
        for bad, keys, _ in reports[: len(numbers)]:
            self.rejects.note(bad, keys)
        found = self.accord.attempt(lambda: self._find(own, portion.batch, evaluators))
        everything = self.world.collect(found)[: len(numbers)]
        self.accord.attempt(lambda: self._add(everything, evaluators))

    def _find(self, number: int, batch: Mapping[str, Any], evaluators: Mapping[Evaluator, Bound]) -> list[Any]:
        """What each evaluator finds in a batch, to be sent to the first process if there are others."""
        self.world.seed_alike(mix(self.seed, number))
        (micro,) = split(batch, self.keys, 1, self.world.device)
        for injector in self.injectors.values():
            injector.inject(micro.state)
        everything = []
        for evaluator, bound in evaluators.items():
            self.world.seed_alike(mix(self.seed, number, 1))  # whatever the others draw
            found = bound(micro.state)
            if self.world.processes > 1:
                found = carried(found, _CPU, bound.path) if evaluator.adds else None
            everything.append(found)
        return everything

    def _add(self, everything: Iterable[list[Any] | None], evaluators: Mapping[Evaluator, Bound]) -> None:
        """Let evaluators take in what was found in some batches, in their order; nothing comes from who has failed."""
        for founds in everything:
            for (evaluator, bound), found in zip(evaluators.items(), founds or (), strict=False):
                several = self.world.processes > 1
                with placed(bound.where):
                    evaluator.add(carried(found, self.world.device, bound.path) if several else found)


def carried(value: Any, device: torch.device, path: str) -> Any:
    """Bring what was found to a device, each tensor in memory of its own, since with a part of it all would be sent."""
    if isinstance(value, Tensor):
        value = value.detach().to(device)
        return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
    if type(value) in (list, tuple):
        return type(value)(carried(item, device, path) for item in value)
    if type(value) is dict:
        return {key: carried(item, device, path) for key, item in value.items()}
    if value is None or isinstance(value, str | int | float):
        return value
    raise RunError(
        f"{path}: what 'forward' returns goes to another process: tensors, numbers, words, and tuples, lists or dicts "
        f"of them; not a {type(value).__name__}"
    )


def _keep_apart(evaluator: Evaluator) -> None:
    """Let no torchmetrics metric sum over processes by itself: what it has seen is all there is already."""
    library = sys.modules.get("torchmetrics")
    for module in evaluator.modules():
        if library and isinstance(module, library.Metric):
            module.distributed_available_fn = _alone


def _alone() -> bool:
    """Whether there are other processes, as torchmetrics asks."""
    return False


@contextmanager
def measuring(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Put modules, with all that is in them, into eval mode, and back as they were."""
    before = [(module, module.training) for owner in modules for module in owner.modules()]
    try:
        for module, _ in before:
            module.training = False
        yield
    finally:
        for module, mode in before:
            module.training = mode
