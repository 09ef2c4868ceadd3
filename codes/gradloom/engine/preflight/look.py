"""Everything that can be found wrong with a run before it starts, in the order in which it is looked for."""

from collections.abc import Mapping
from typing import Any

import torch

from gradloom.engine.preflight import measuring, memory, models, patterns, room, samples
from gradloom.engine.preflight.findings import Findings
from gradloom.engine.preflight.models import Models
from gradloom.engine.preflight.rehearsal import Rehearsal
from gradloom.engine.preflight.report import Report, Row
from gradloom.engine.preflight.samples import Opened
from gradloom.engine.preflight.stage import Stage
from gradloom.plan.plan import Call, Plan
from gradloom.plan.program import training


def look_ahead(plan: Plan, device: torch.device, first: int | None = None) -> Report:
    """Find what would go wrong in a run on a device, and say what it will take.

    `first` is the iteration that it goes on from, where it is resumed.

    The plan, its parts and all random numbers stay as they are, and no weight is made.
    """
    with samples.random_numbers_put_aside(plan.sections.train.manual_seed):
        return _look(plan.fresh(), device, plan.sections.start_step + 1 if first is None else first)


def _look(plan: Plan, device: torch.device, first: int) -> Report:
    findings, report = Findings(autocast=plan.sections.precision != "fp32"), Report()
    opened = samples.open_all(plan, findings)
    _check_read(plan, opened, findings)
    built = models.build(plan, findings)
    optimizers = memory.optimizers(plan, built, findings)
    stage = Stage(built.known, findings)
    stage.set_up(_calls(plan))
    rehearsal = Rehearsal(plan, built, stage, findings)
    iterations = patterns.iterations(plan, first)
    report.networks = [_row(plan, built, name) for name in built.networks]
    report.samples = [line for one in opened.values() for line in samples.told(one)]
    report.datasets = {phase: one.dataset for phase, one in opened.items()}
    report.patterns = len(iterations)
    batch = _training_batch(opened)
    for iteration in iterations if batch else ():
        rehearsal.look(iteration, opened["train"].per_epoch or 1, batch)
    if "val" in opened:
        measuring.look(plan, built, stage, opened["val"])
    state = memory.state_bytes(plan, built, optimizers) if built.networks.keys() == plan.networks.keys() else 0
    report.room = room.look(plan, built, state, first, findings)
    report.faults, report.notices = findings.faults, findings.notices
    if batch and not report.faults:
        report.memory = memory.estimate(plan, built, rehearsal, optimizers, state, iterations, batch, device)
        report.notices += memory.too_much(plan, report.memory, device)
    return report


def _calls(plan: Plan) -> list[Call[Any]]:
    ours = [call for step in plan.steps for call in (*step.injectors, *step.losses)]
    return [*ours, *(call for measure in plan.measures for call in (*measure.injectors, *measure.calls))]


def _check_read(plan: Plan, opened: Mapping[str, Opened], findings: Findings) -> None:
    if "train" in opened:
        calls = [call for step in plan.steps for call in (*filter(training, step.injectors), *step.losses)]
        samples.check_read(opened["train"], calls, findings)
    if "val" in opened:
        for measure in plan.measures:
            samples.check_read(opened["val"], [*measure.injectors, *measure.calls], findings)


def _training_batch(opened: Mapping[str, Opened]) -> dict[str, Any]:
    one = opened.get("train")
    return one.batch(one.planned.batch_size) if one else {}


def _row(plan: Plan, built: Models, name: str) -> Row:
    network = built.networks[name]
    trained = {each for step in plan.steps for each in step.trains}
    return Row(
        name,
        plan.networks[name].which_model,
        models.num_parameters(network),
        models.num_trained(network) if name in trained else 0,
        models.num_bytes(network.state_dict()),
    )
