"""What steps ask of those before them, `requires`, and what they let those after them have, `step_outputs`."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace

from gradloom.errors import Fault, suggest
from gradloom.gates import Gate
from gradloom.parts import keys_in
from gradloom.plan.plan import Step
from gradloom.plan.program import training


def with_requirements(
    steps: Sequence[Step], given: Iterable[str] | None, assumed: Container[str], faults: list[Fault]
) -> list[Step]:
    """Close each step's gate in iterations in which a key that it requires is not written.

    A step that only does not train, by its `every` or its optimizer's gate, still writes its keys, as in the ancestor.
    Where it is not known what a batch holds (`given` is None), a key that nothing writes comes with it.
    """
    written = {key: Gate() for key in given or ()}
    eventually = {key for step in steps for call in step.injectors for key in call.writes}
    found = []
    for step in steps:
        gate, node = Gate(), step.node.get("requires")
        for key in keys_in(node.plain()) if node else ():
            if key in written:
                gate = gate & written[key]
            elif (given is not None or key in eventually) and key not in assumed and node:
                why = f"nothing before it writes {key!r}, so it would never run; {suggest(key, written)}"
                faults.append((node.find(key) or node).fault(why))
        step = replace(step, gate=step.gate & gate, supplies=step.supplies & gate)
        _check_outputs(step, assumed, faults)
        for call in step.injectors:
            if training(call):
                own = call.gate & step.supplies
                turns = {key: written[key] | own if key in written else own for key in call.writes if step.shows(key)}
                written |= turns
        found.append(step)
    return found


def _check_outputs(step: Step, assumed: Container[str], faults: list[Fault]) -> None:
    """See that a step writes what it lets others have."""
    own = {key for call in step.injectors for key in call.writes}
    node = step.node.get("step_outputs")
    for key in step.outputs or ():
        if key not in own and key not in assumed and node:
            faults.append((node.find(key) or node).fault(f"the step does not write {key!r}; {suggest(key, own)}"))
