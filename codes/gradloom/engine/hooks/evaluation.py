"""Measure the networks now and then, on the validation set, with the same noise each time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from gradloom.engine import build
from gradloom.engine.batches import split
from gradloom.engine.buffers import averaged
from gradloom.engine.calls import Bound
from gradloom.engine.data.feed import measuring_batches
from gradloom.engine.data.rejects import Rejects
from gradloom.engine.hooks.hook import Hook, Run
from gradloom.engine.hooks.images import show
from gradloom.engine.interrupts import Interrupts
from gradloom.plan.plan import Call, Measure

if TYPE_CHECKING:
    from gradloom.engine.trainer import Trainer


class _Abandoned(Exception):
    """The run was asked to stop while it measured."""


class Evaluation(Hook):
    """Runs the evaluators every `val_freq` iterations, at the end, and before the start if `eval.at_start` says so."""

    def __init__(self, trainer: Trainer, dataset: Dataset[Any] | None) -> None:
        plan = trainer.plan
        self.every, self.at_start = plan.sections.train.val_freq, plan.sections.eval.at_start
        self.first: dict[str, float] = {}
        self.measured = -1  # the iterations done at the last evaluation
        self._dataset = dataset
        self._rejects: Rejects | None = None
        self._run: Run | None = None  # once it has started
        calls = [call for measure in plan.measures for call in (*measure.calls, *measure.injectors)]
        for call in dict.fromkeys(calls):
            if call not in trainer.calls:
                build.set_up(call, trainer.world.device)
        if plan.measures:
            self._rejects = Rejects(plan.datasets["val"], self._say)

    def state(self) -> dict[str, Any]:
        return {"first": dict(self.first), "measured": self.measured}

    def load(self, state: Mapping[str, Any]) -> None:
        self.first, self.measured = dict(state["first"]), state["measured"]

    def start(self, run: Run) -> None:
        """Measure before the first iteration if asked to, or what an interruption kept from being measured."""
        self._run = run
        if self._due(run) and self.measured != run.trainer.iteration:
            self._try(run)

    def after_iteration(self, run: Run, metrics: Mapping[str, Tensor]) -> None:
        if self._due(run):
            self._try(run)

    def _say(self, text: str) -> None:
        if self._run is not None:
            self._run.log.say(text)

    def _due(self, run: Run) -> bool:
        done = run.trainer.iteration
        return run.last or (self.at_start if done == 0 else bool(self.every and done % self.every == 0))

    def _try(self, run: Run) -> None:
        try:
            self._report(run)
        except _Abandoned:
            run.log.say("the evaluation is put off until the run goes on")

    def _report(self, run: Run) -> None:
        values: dict[str, float] = {}
        notes: dict[str, str] = {}
        pictures: dict[str, Tensor] = {}
        for measure in run.trainer.plan.measures:
            calls = [call for call in measure.calls if run.last or call.gate.open(run.trainer.iteration)]
            if not calls:
                continue
            self.measure(run.trainer, measure, calls, None if run.last else run.interrupts)
            for call in calls:
                found = {_title(call, metric): float(value) for metric, value in call.part.compute().items()}
                values |= found
                if found:
                    notes[next(iter(found))] = _protocol(measure, call)
                pictures |= {f"{call.name}/{key}": images for key, images in call.part.images().items()}
        values = run.trainer.world.first(values)
        self.measured = run.trainer.iteration
        if values:
            run.report("eval", values, notes)
            self._compare(run, values)
        for key, images in pictures.items():
            show(run, key, images, run.trainer.plan.sections.logger)

    def _compare(self, run: Run, values: Mapping[str, float]) -> None:
        """Remember what to say at the end."""
        self.first = {**values, **self.first}
        for name, value in values.items():
            then = self.first[name]
            run.outcome[name] = f"{value:.4g}" if then == value else f"{value:.4g}, at first {then:.4g}"

    @torch.no_grad()
    def measure(
        self, trainer: Trainer, measure: Measure, calls: Iterable[Call[Any]], interrupts: Interrupts | None = None
    ) -> None:
        """Show evaluators every batch of the validation set, with what the injectors add to it."""
        plan, device = trainer.plan, trainer.world.device
        known = build.named(trainer.networks, trainer.emas)
        if measure.stands_in:
            known[measure.stands_in.removesuffix(".ema")] = known[measure.stands_in]
        for call in (*measure.injectors, *calls):
            call.part.advance(trainer.iteration, trainer.iterations_per_epoch)
        injectors = [Bound(call, known) for call in measure.injectors]
        evaluators = [Bound(call, known) for call in calls]
        keys = sorted(measure.inputs)
        devices = [device] if device.type == "cuda" else []
        measured = [*known.values(), *(injector.part for injector in injectors)]
        with (
            averaged(trainer.world, dict.fromkeys(measured)),
            torch.random.fork_rng(devices),
            measuring(known.values(), injectors),
            trainer.precision.cast(),
        ):
            torch.manual_seed(plan.sections.eval.seed)
            for evaluator in evaluators:
                evaluator.part.reset()  # type: ignore[operator]
            for batch in self._batches(trainer, measure):
                if interrupts and interrupts.number is not None and trainer.world.processes == 1:
                    raise _Abandoned
                (micro,) = split(batch, keys, 1, device)
                for injector in injectors:
                    injector.inject(micro.state)
                for evaluator in evaluators:
                    evaluator(micro.state)

    def _batches(self, trainer: Trainer, measure: Measure) -> Iterator[Mapping[str, Any]]:
        if self._dataset is None or self._rejects is None:
            return iter(())
        plan = trainer.plan
        size = plan.datasets["val"].batch_size
        return measuring_batches(self._dataset, size, measure.samples, plan.sections.eval.seed, self._rejects)


def _title(call: Call[Any], metric: str) -> str:
    return call.name if metric == call.part.type_name else f"{call.name}/{metric}"


def _protocol(measure: Measure, call: Call[Any]) -> str:
    """How a number came about, and whether it is that of an average of weights."""
    whose = f"weights of {measure.stands_in}" if measure.stands_in else "weights as they are, no average"
    return "; ".join(filter(None, [call.part.protocol(), whose]))


@contextmanager
def measuring(networks: Iterable[nn.Module], injectors: Iterable[Bound]) -> Iterator[None]:
    """Put networks and injectors into eval mode, and back as they were."""
    modules = [module for network in networks for module in network.modules()]
    modules += [injector.part for injector in injectors]
    before = [(module, module.training) for module in modules]
    try:
        for module, _ in before:
            module.training = False
        yield
    finally:
        for module, mode in before:
            module.training = mode
