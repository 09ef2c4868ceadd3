"""Measure the networks now and then, on the validation set, with the same noise each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.data import Dataset

from gradloom.engine import build
from gradloom.engine.accord import Accord
from gradloom.engine.data.feed import Validation
from gradloom.engine.data.rejects import Rejects
from gradloom.engine.hooks.hook import Hook, Run
from gradloom.engine.hooks.images import show
from gradloom.engine.measuring import Abandoned, Measuring
from gradloom.engine.returned import images, numbers
from gradloom.parts import Evaluator
from gradloom.plan.plan import Call, Measure
from gradloom.plan.validation import totals
from gradloom.raised import placed

if TYPE_CHECKING:
    from gradloom.engine.trainer import Trainer


@dataclass
class Outcome:
    """What evaluators made of what they were shown: numbers, some with a note on how they came about, and pictures."""

    values: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)


class Evaluation(Hook):
    """Runs the evaluators every `val_freq` iterations, at the end, and before the start if `eval.at_start` says so."""

    def __init__(self, trainer: Trainer, datasets: Mapping[str, Dataset[Any]]) -> None:
        plan = trainer.plan
        self.every, self.at_start = plan.sections.train.val_freq, plan.sections.eval.at_start
        self.first: dict[str, float] = {}
        self.measured = -1  # the iterations done at the last evaluation
        self._datasets = datasets
        self._run: Run | None = None  # once it has started
        calls = [call for measure in plan.measures for call in (*measure.calls, *measure.injectors)]
        for call in dict.fromkeys(calls):
            if call not in trainer.calls:
                build.set_up(call, trainer.world.device)
        self._rejects = {phase: Rejects(dataset, self._say) for phase, dataset in plan.datasets.items()}

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
        except Abandoned:
            run.log.say("the evaluation is put off until the run goes on")

    def _report(self, run: Run) -> None:
        """Measure, and tell what came of it; all processes have the numbers, the first has notes and pictures."""
        outcome = Outcome()
        for measure in run.trainer.plan.measures:
            calls = [call for call in measure.calls if run.last or call.gate.open(run.trainer.iteration)]
            if calls:
                self._measure(run, measure, calls, outcome)
        self.measured = run.trainer.iteration
        outcome.values |= totals(run.trainer.plan.steps, outcome.values)
        if outcome.values:
            run.report("eval", outcome.values, outcome.notes)
            self._compare(run, outcome.values)
        for key, picture in outcome.pictures.items():
            show(run, key, picture, run.trainer.plan.sections.logger)

    def _compare(self, run: Run, values: Mapping[str, float]) -> None:
        """Remember what to say at the end."""
        self.first = {**values, **self.first}
        for name, value in values.items():
            then = self.first[name]
            run.outcome[name] = f"{value:.4g}" if then == value else f"{value:.4g}, at first {then:.4g}"

    def _measure(self, run: Run, measure: Measure, calls: Sequence[Call[Evaluator]], outcome: Outcome) -> None:
        """Show evaluators their dataset, and ask them in the first process what they make of it."""
        plan, world, rejects = run.trainer.plan, run.trainer.world, self._rejects[measure.phase]
        size, seed = plan.datasets[measure.phase].batch_size, plan.sections.eval.seed
        batches = Validation(self._datasets[measure.phase], size, measure.samples, seed, rejects.most)
        interrupts = None if run.last else run.interrupts
        Measuring(run.trainer, measure, calls, batches, rejects, interrupts).run()
        accord = Accord(world)
        if world.writes:
            accord.attempt(lambda: _take_in(outcome, measure, calls))
        outcome.values = accord.agree(outcome.values)[0]


def _take_in(outcome: Outcome, measure: Measure, calls: Sequence[Call[Evaluator]]) -> None:
    """Add what all batches amount to."""
    for call in calls:
        with placed(call.where):
            found = numbers(call.part.compute(), f"{call.path}: compute()")
            pictures = images(call.part.images(), f"{call.path}: images()")
            protocol = _protocol(measure, call)
        found = {_title(call, metric): value for metric, value in found.items()}
        outcome.values |= found
        if found:
            outcome.notes[next(iter(found))] = protocol
        outcome.pictures |= {f"{call.name}/{key}": one for key, one in pictures.items()}


def _title(call: Call[Any], metric: str) -> str:
    return call.name if metric == call.part.type_name else f"{call.name}/{metric}"


def _protocol(measure: Measure, call: Call[Any]) -> str:
    """How a number came about, and whether it is that of an average of weights."""
    whose = f"weights of {measure.stands_in}" if measure.stands_in else "weights as they are, no average"
    return "; ".join(filter(None, [str(call.part.protocol() or ""), whose]))
