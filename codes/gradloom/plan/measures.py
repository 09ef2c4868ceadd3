"""What is measured: evaluators that look at the same samples, with the injectors that make what they read.

An evaluator may look at a dataset of its own; it is one of the plan's, named after where it stands.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from gradloom.config.node import Node
from gradloom.errors import Fault
from gradloom.parts import Evaluator, Injector, Part
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
    shown = [call for call, phase in phases.items() if phase == "val"]
    asking = [*([pure] if pure else []), *(call.node for call in shown if not call.part.own_data)]
    if "val" not in pieces.datasets and asking:
        pieces.faults.append(asking[0].fault("there is no dataset to measure; add datasets.val"))
    elif "val" not in pieces.datasets and shown:
        pieces.datasets["val"] = _nothing(shown[0].node)
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
    own = call.part.looks_at()
    if own is None:
        return "val"
    choice, batch_size = own
    node = call.node.fields["dataset"]
    recipe = Recipe(choice.make, choice.arguments, node)
    pieces.datasets[node.path] = Dataset(node.path, choice.name, recipe, choice.keys, batch_size, 0, pin_memory=False)
    return node.path


class Nothing:
    """The validation set of evaluators that bring their own: one sample, which nobody reads."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> dict[str, int]:
        return {"nothing": range(1)[index]}


def _nothing(node: Node) -> Dataset:
    return Dataset("val", "nothing", Recipe(Nothing, {}, node), ("nothing",), batch_size=1, workers=0, pin_memory=False)


def _measure(
    pieces: Pieces, calls: tuple[Call[Evaluator], ...], val: Dataset, stands_in: str | None, samples: int | None
) -> Measure:
    injectors = tuple(needed(pool(pieces), [key for call in calls for key in call.reads]))
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
