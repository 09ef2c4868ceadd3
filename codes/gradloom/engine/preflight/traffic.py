"""What the processes of a run have to average: the gradients of each step, after its last micro-batch."""

from collections.abc import Iterable
from dataclasses import dataclass

from gradloom.engine.containers import num_bytes
from gradloom.engine.preflight.models import Models
from gradloom.engine.preflight.words import amount
from gradloom.plan.plan import Plan


@dataclass(frozen=True)
class Averaged:
    """The gradients of one update."""

    step: str
    bytes: int
    every: int  # iterations from one update to the next


def averaged(plan: Plan, models: Models) -> list[Averaged]:
    """What each step averages, as far as its networks could be built; gradients are as large as weights."""
    return [
        Averaged(step.name, sum(_trained_bytes(models, name) for name in step.trains), step.gate.every)
        for step in plan.steps
        if step.losses
    ]


def _trained_bytes(models: Models, name: str) -> int:
    if name not in models.networks:
        return 0
    return num_bytes([p for p in models.networks[name].parameters() if p.requires_grad])


def told(traffic: Iterable[Averaged]) -> str:
    """One line: the mean of an iteration, and the updates it is made of."""
    mean = round(sum(one.bytes / one.every for one in traffic))
    terms = [
        f"{one.step} {amount(one.bytes)}" + (f" every {one.every} iterations" if one.every > 1 else "")
        for one in traffic
    ]
    return f"to average over processes: {amount(mean)} an iteration ({', '.join(terms)})"
