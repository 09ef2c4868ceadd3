"""What is measured: evaluators that look at the same samples, with the injectors that make what they read.

An evaluator may look at a dataset of its own; it is one of the plan's, named after where it stands.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from gradloom.config.binding import judged
from gradloom.errors import Fault
from gradloom.parts import Evaluator, Injector, Part, Shown
from gradloom.plan.dataflow import unwritten
from gradloom.plan.pieces import Pieces
from gradloom.plan.plan import Call, Dataset, Measure, Recipe
from gradloom.plan.program import needed
from gradloom.plan.validation import sized, validation_losses


def measures(pieces: Pieces) -> list[Measure]:
    """Group evaluators by what they look at, with the injectors they need: those under `eval`, or the steps'."""
    section = pieces.root.get("eval")
    evaluators = pieces.calls(Evaluator, section, "evaluators", ())
    phases = {call: _phase(pieces, call) for call in evaluators}
    pure = section.get("pure") if section and pieces.sections.eval.pure else None
    losses = validation_losses(pieces.steps, pieces.notices) if pure else []
    shown = [call.node for call, phase in phases.items() if phase == "val"]
    asking = [*([pure] if pure else []), *shown]
    if "val" not in pieces.datasets and asking:
        pieces.faults.append(asking[0].fault("there is no dataset to measure; add datasets.val"))
    for call in evaluators:
        if call.part.for_ is not None and call.part.for_ not in call.networks:  # else that has been looked at
            pieces.check_called(call.part.for_, call, pieces.faults)
    groups: dict[tuple[str, str | None, int | None], list[Call[Evaluator]]] = {}
    for call in evaluators:
        groups.setdefault((phases[call], call.part.for_, call.part.samples), []).append(call)
    found = [
        _measure(pieces, tuple(calls), dataset, stands_in, samples)
        for (phase, stands_in, samples), calls in groups.items()
        if (dataset := pieces.datasets.get(phase))
    ]
    if losses and (val := pieces.datasets.get("val")):
        found.append(_pure(pieces, losses, val))
    return found


def pool(pieces: Pieces) -> list[Call[Injector]]:
    """The injectors that there are outside training: those under `eval`, and the steps' for what these do not write."""
    overridden = {key for call in pieces.measuring for key in call.writes}
    steps = [call for step in pieces.steps for call in step.injectors if not overridden & {*call.writes}]
    return [call for call in (*steps, *pieces.measuring) if not call.part.train_]


def _pure(pieces: Pieces, losses: list[Call[Evaluator]], val: Dataset) -> Measure:
    """What `eval.pure` measures: the losses of all steps."""
    before = len(pieces.faults)
    measure = _measure(pieces, tuple(losses), val, None, None)
    pieces.faults[before:] = [
        replace(fault, message=f"while eval.pure measures, {fault.message}") for fault in pieces.faults[before:]
    ]
    return replace(measure, calls=sized(losses, measure.inputs))


def _phase(pieces: Pieces, call: Call[Evaluator]) -> str:
    """The dataset that an evaluator is shown, which joins the others if it is its own."""
    own = None
    with judged(call.node, pieces.faults):
        own = call.part.looks_at()
    if own is None:
        return "val"
    if not isinstance(own, Shown):
        pieces.faults.append(call.fault(f"looks_at() returns what is Shown, or None, got a {type(own).__name__}"))
        return "val"
    node, choice = call.node.get(own.option or "") or call.node, own.dataset
    recipe = Recipe(choice.make, choice.arguments, node)
    dataset = Dataset(node.path, choice.name, recipe, choice.keys, own.batch_size, workers=0, pin_memory=False)
    pieces.datasets[node.path] = dataset
    return node.path


def _measure(
    pieces: Pieces, calls: tuple[Call[Evaluator], ...], val: Dataset, stands_in: str | None, samples: int | None
) -> Measure:
    held = () if val.phase == "val" else val.keys or ()  # an evaluator's own data are measured as they are
    makers = [call for call in pool(pieces) if not {*held} & {*call.writes}]
    injectors = tuple(needed(makers, [key for call in calls for key in call.reads]))
    inputs = taken(pieces, (*injectors, *calls), val.keys, pieces.faults)
    return Measure(calls, injectors, inputs, stands_in, samples, val.phase)


def taken(
    pieces: Pieces, calls: Iterable[Call[Part]], keys: Collection[str] | None, faults: list[Fault]
) -> tuple[str, ...]:
    """What calls in a row need of a batch that holds these keys; any, where they are not known."""
    writers = {key: call for step in pieces.steps for call in step.injectors for key in call.writes}
    known = {*(keys or ()), *(key for call in pool(pieces) for key in call.writes)}
    written = dict.fromkeys(keys or ())
    inputs: dict[str, None] = {}
    for call in calls:
        for key in call.reads:
            if key in written or key in inputs:
                inputs |= {key: None} if key in (keys or ()) else {}
            elif keys is None:
                inputs[key] = None
            elif key not in pieces.assumed:
                faults.append(unwritten(call, key, known, writers))
        written |= dict.fromkeys(call.writes)
    return tuple(inputs)
