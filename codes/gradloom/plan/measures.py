"""What is measured: evaluators that look at the same samples, with the injectors that make what they read."""

from collections.abc import Mapping
from dataclasses import replace

from gradloom.parts import Evaluator, Injector
from gradloom.plan.dataflow import unwritten
from gradloom.plan.pieces import Pieces
from gradloom.plan.plan import Call, Dataset, Measure
from gradloom.plan.program import needed
from gradloom.plan.validation import sized, validation_losses


def measures(pieces: Pieces) -> list[Measure]:
    """Group evaluators by what they look at, with the injectors they need: those under `eval`, or the steps'."""
    section = pieces.root.get("eval")
    own = pieces.calls(Injector, section, "injectors", ())
    evaluators = pieces.calls(Evaluator, section, "evaluators", ())
    val = pieces.datasets.get("val")
    pure = section.get("pure") if section and pieces.sections.eval.pure else None
    losses = validation_losses(pieces.steps, pieces.notices) if pure else []
    if val is None:
        if "val" not in pieces.datasets and (asking := pure or (evaluators and evaluators[0].node)):
            pieces.faults.append(asking.fault("there is no dataset to measure; add datasets.val"))
        return []
    writers = {key: call for step in pieces.steps for call in step.injectors for key in call.writes}
    overridden = {key for call in own for key in call.writes}
    ours = [call for step in pieces.steps for call in step.injectors if not overridden & {*call.writes}]
    pool = [call for call in (*ours, *own) if not call.part.train_]
    for call in evaluators:
        if call.part.for_ is not None and call.part.for_ not in call.networks:  # else that has been looked at
            pieces.check_called(call.part.for_, call, pieces.faults)
    groups: dict[tuple[str | None, int | None], list[Call[Evaluator]]] = {}
    for call in evaluators:
        groups.setdefault((call.part.for_, call.part.samples), []).append(call)
    found = [_measure(pieces, tuple(calls), pool, val, writers, *key) for key, calls in groups.items()]
    if losses:
        before = len(pieces.faults)
        measure = _measure(pieces, tuple(losses), pool, val, writers, None, None)
        pieces.faults[before:] = [
            replace(fault, message=f"while eval.pure measures, {fault.message}") for fault in pieces.faults[before:]
        ]
        found.append(replace(measure, calls=sized(losses, measure.inputs)))
    return found


def _measure(
    pieces: Pieces, calls: tuple[Call[Evaluator], ...], pool: list[Call[Injector]], val: Dataset,
    writers: Mapping[str, Call[Injector]], stands_in: str | None, samples: int | None,
) -> Measure:  # fmt: skip
    injectors = tuple(needed(pool, [key for call in calls for key in call.reads]))
    known = {*(val.keys or ()), *(key for call in pool for key in call.writes)}
    written = dict.fromkeys(val.keys or ())
    inputs: dict[str, None] = {}
    for call in (*injectors, *calls):
        for key in call.reads:
            if key in written or key in inputs:
                inputs |= {key: None} if key in (val.keys or ()) else {}
            elif val.keys is None:
                inputs[key] = None
            elif key not in pieces.assumed:
                pieces.faults.append(unwritten(call, key, known, writers))
        written |= dict.fromkeys(call.writes)
    return Measure(calls, injectors, tuple(inputs), stands_in, samples)
