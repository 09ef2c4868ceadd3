"""Measure without values: what each measure's injectors and evaluators do with a batch of its dataset."""

from collections.abc import Mapping
from typing import Any

import torch

from gradloom.engine.measuring import measuring
from gradloom.engine.preflight.models import Models
from gradloom.engine.preflight.samples import Opened
from gradloom.engine.preflight.stage import Stage
from gradloom.plan.plan import Measure, Plan


def look(plan: Plan, models: Models, stage: Stage, opened: Mapping[str, Opened]) -> None:
    """Find what is wrong with each measure, on the first batch that it will see."""
    for measure in plan.measures:
        one = opened.get(measure.phase)
        if one is not None and one.one is not None:
            size = min(one.planned.batch_size, measure.samples or one.length)
            follow(measure, models, stage, one.batch(size))


def follow(measure: Measure, models: Models, stage: Stage, batch: dict[str, Any]) -> dict[str, Any]:
    """Find what is wrong with a measure, on a batch, and return the state that it ends with."""
    known = dict(models.known)
    if measure.stands_in in known:
        known[measure.stands_in.removesuffix(".ema")] = known[measure.stands_in]
    stage = stage.with_networks(known)
    state = {key: batch[key] for key in measure.inputs if key in batch}
    with torch.no_grad(), measuring([*known.values(), *(call.part for call in measure.injectors)]):
        for call in measure.injectors:
            stage.inject(call, state)
        for evaluator in measure.calls:
            stage.shown(evaluator, state)
    return state
