"""The iterations that have to be looked at, so that every set of open gates is seen once."""

import math
from collections.abc import Iterable, Iterator
from itertools import combinations

from gradloom.gates import Gate
from gradloom.plan.plan import Plan

_MOST = 32
_WINDOW = 1000


def iterations(plan: Plan, first: int) -> list[int]:
    """The first iteration of each combination of open gates that training meets, up to 32 of them."""
    gates = _gates(plan)
    last = plan.sections.train.niter
    found: dict[tuple[bool, ...], int] = {}
    for iteration in sorted(set(_candidates(gates, first, last))):
        found.setdefault(tuple(gate.open(iteration) for gate in gates), iteration)
    return list(found.values())[:_MOST]


def _gates(plan: Plan) -> list[Gate]:
    calls = [call for step in plan.steps for call in (*step.injectors, *step.losses)]
    gates = [call.gate for call in calls] + [step.gate for step in plan.steps]
    return list(dict.fromkeys([*gates, *(network.gate for network in plan.networks.values())]))


def _candidates(gates: Iterable[Gate], first: int, last: int) -> Iterator[int]:
    """After each edge of a gate: one round of all rhythms, or where these do not meet soon, their meetings."""
    rhythms = sorted({gate.every for gate in gates} - {1})
    edges = {first} | {gate.after for gate in gates} | {gate.before + 1 for gate in gates if gate.before is not None}
    together = math.lcm(*rhythms)
    for edge in sorted(edge for edge in edges if first <= edge < last):
        yield from range(edge, min(last, edge + min(together, _WINDOW)))
        if together > _WINDOW:
            chosen = [some for count in (1, 2, len(rhythms)) for some in combinations(rhythms, count)]
            for every in (math.lcm(*some) for some in chosen):
                next_one = -(-edge // every) * every
                yield from range(next_one, min(last, next_one + 2 * every), every)
