"""Everything that can be found wrong with a run before it starts, in the order in which it is looked for."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from gradloom.engine.containers import num_bytes
from gradloom.engine.preflight import measuring, memory, models, patterns, room, samples, traffic
from gradloom.engine.preflight.findings import Findings
from gradloom.engine.preflight.models import Models
from gradloom.engine.preflight.rehearsal import Rehearsal
from gradloom.engine.preflight.report import Report, Row
from gradloom.engine.preflight.samples import Opened
from gradloom.engine.preflight.stage import Stage
from gradloom.plan.plan import Call, Plan


def look_ahead(plan: Plan, device: torch.device, first: int | None = None, processes: int = 1) -> Report:
    """Find what would go wrong in a run on a device, and say what it will take.

    `first` is the iteration that it goes on from, where it is resumed. Of several processes it looks at one.

    The plan, its parts and all random numbers stay as they are, and no weight is made.
    """
    with samples.random_numbers_put_aside(plan.sections.train.manual_seed):
        start = plan.sections.start_step + 1 if first is None else first
        return _look(plan.fresh(), device, start, processes)


def _look(plan: Plan, device: torch.device, first: int, processes: int) -> Report:
    findings, report = Findings(autocast=plan.sections.precision != "fp32"), Report()
    opened, iterations = samples.open_all(plan, findings, processes), patterns.iterations(plan, first)
    _check_read(plan, iterations, opened, findings)
    built = models.build(plan, findings, processes)
    optimizers = memory.optimizers(plan, built, findings)
    report.samples = [line for one in opened.values() for line in samples.told(one)]
    report.datasets = {phase: one.dataset for phase, one in opened.items()}
    report.networks = [row(plan, built, name) for name in built.networks]
    stage = Stage(built.known, findings)
    stage.set_up(_calls(plan))
    rehearsal, batches = Rehearsal(plan, built, stage, findings, processes), _training_batches(opened)
    for iteration in iterations:
        for batch in batches:
            rehearsal.look(iteration, opened["train"].per_epoch or 1, batch)
    unknown = findings.unknown
    measuring.look(plan, built, stage, opened)
    state = memory.state_bytes(plan, built, optimizers)
    report.traffic = traffic.averaged(plan, built)
    report.room = room.look(plan, built, state, first, findings)
    report.faults, report.notices = findings.faults, findings.notices + memory.changes_nothing(plan, device)
    if batches and not report.faults:
        estimated = memory.estimate(plan, built, rehearsal, optimizers, iterations, batches[0], device)
        report.memory = replace(estimated, whole=not unknown)
        report.notices += memory.too_much(plan, report.memory, device)
    return report


def _calls(plan: Plan) -> list[Call[Any]]:
    ours = [call for step in plan.steps for call in (*step.injectors, *step.losses)]
    return [*ours, *(call for measure in plan.measures for call in (*measure.injectors, *measure.calls))]


def _check_read(plan: Plan, iterations: list[int], opened: Mapping[str, Opened], findings: Findings) -> None:
    """See that samples hold what is read of them by whatever takes part."""
    if "train" in opened:
        programs = [plan.program(iteration, frozenset(plan.sections.logger.visuals)) for iteration in iterations]
        routines = [routine for program in programs for routine in program.routines]
        actions = [action for routine in routines for action in (*routine.injectors, *routine.losses)]
        samples.check_read(opened["train"], list(dict.fromkeys(action.call for action in actions)), findings)
    for measure in plan.measures:
        if measure.phase in opened:
            samples.check_read(opened[measure.phase], [*measure.injectors, *measure.calls], findings)


def _training_batches(opened: Mapping[str, Opened]) -> list[dict[str, Any]]:
    """A process's largest share of a batch, and its smallest where that is another; none where there is no sample."""
    one = opened.get("train")
    return [one.batch(size) for size in one.shares] if one and one.one else []


def row(plan: Plan, built: Models, name: str) -> Row:
    """A network in numbers."""
    network = built.networks[name]
    trained = {each for step in plan.steps for each in step.trains}
    return Row(
        name,
        plan.networks[name].which_model,
        models.num_parameters(network),
        models.num_trained(network) if name in trained else 0,
        num_bytes(network.state_dict()),
    )
