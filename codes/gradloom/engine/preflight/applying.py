"""Everything that can be found wrong before networks are applied to datasets, where nothing is trained."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gradloom.engine.preflight import measuring, models, samples
from gradloom.engine.preflight.findings import Findings
from gradloom.engine.preflight.look import row
from gradloom.engine.preflight.report import Report
from gradloom.engine.preflight.stage import Stage
from gradloom.plan.applying import RECURRENT
from gradloom.plan.plan import Application, Plan


def look_at_application(plan: Plan, applied: Application, phases: Iterable[str]) -> Report:
    """Find what would go wrong with some of the datasets, without values.

    The plan, its parts and all random numbers stay as they are, and no weight is made.
    """
    with samples.random_numbers_put_aside(plan.sections.eval.seed):
        plan = plan.fresh()
        plan = replace(plan, sections=replace(plan.sections, checkpointing_enabled=False))  # nothing goes backwards
        return _look(plan, plan.application or applied, phases)


def _look(plan: Plan, applied: Application, phases: Iterable[str]) -> Report:
    findings, report = Findings(autocast=plan.sections.precision != "fp32"), Report()
    opened = samples.open_some(plan, phases, findings)
    built = models.build(plan, findings, 1)
    report.samples = [line for one in opened.values() for line in samples.told(one)]
    report.datasets = {phase: one.dataset for phase, one in opened.items()}
    report.networks = [row(plan, built, name) for name in built.networks]
    stage = Stage(built.known, findings)
    stage.set_up(call for phase in opened for call in applied.passes[phase].injectors)
    for phase, one in opened.items():
        measure = applied.passes[phase]
        if RECURRENT not in measure.inputs:
            samples.check_read(one, list(measure.injectors), findings)
        if one.one is not None:
            batch = one.batch(min(one.planned.batch_size, one.length))
            _check_picture(plan, applied.output, measuring.follow(measure, built, stage, batch), findings)
    report.faults, report.notices = findings.faults, findings.notices
    return report


def _check_picture(plan: Plan, output: str, state: dict[str, Any], findings: Findings) -> None:
    """See that what is written is images: (samples, channels, height, width), or several of each sample."""
    value, root = state.get(output), plan.document.root
    fits = isinstance(value, Tensor) and value.dim() in (4, 5) and value.shape[-3] != 2
    if value is None or fits or root is None:
        return
    shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
    place = root.fields["eval"].fields["output_state"]
    findings.fault(place.fault(f"{output!r} is {shape}, no images: expected (samples, channels, height, width)"))
