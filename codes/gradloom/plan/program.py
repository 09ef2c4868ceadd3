"""What one iteration runs: worked out backwards from what is wanted, so that nothing else runs or stays alive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradloom.parts import Injector, Loss
    from gradloom.plan.plan import Call, Plan, Step


@dataclass(frozen=True, eq=False)
class Action:
    """A call, and the keys that nothing reads after it."""

    call: Call[Any]
    frees: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Routine:
    """What a step does in an iteration; one that trains nothing runs its injectors for later steps only."""

    step: Step
    trains: tuple[str, ...]
    injectors: tuple[Action, ...]
    losses: tuple[Action, ...]
    exports: tuple[str, ...]  # what it writes that is wanted after it, cut from its graph when it ends


@dataclass(frozen=True, eq=False)
class Program:
    """What an iteration does, and the keys of the batch that it needs."""

    inputs: tuple[str, ...]
    routines: tuple[Routine, ...]


def program(plan: Plan, iteration: int, keep: frozenset[str]) -> Program:
    """Work out an iteration from its end: a call runs if something that runs after it reads what it writes.

    A key in `keep` that an injector writes in other iterations only is not there in this one.
    """
    wanted = set(keep)
    routines = []
    for step in reversed(plan.steps):
        trains, losses = _training(plan, step, iteration)
        routine = _routine(step, trains, losses, iteration, wanted)
        if routine.injectors or routine.losses:
            routines.append(routine)
    made = {key for step in plan.steps for call in step.injectors if training(call) for key in call.writes}
    made |= {key for step in plan.steps for call in step.losses for key in call.writes}
    return Program(tuple(sorted(wanted - made)), tuple(reversed(routines)))


def _training(plan: Plan, step: Step, iteration: int) -> tuple[tuple[str, ...], Sequence[Call[Loss]]]:
    """The networks that a step trains in an iteration, and the losses that take part."""
    if not step.gate.open(iteration):
        return (), ()
    trains = tuple(name for name in step.trains if plan.networks[name].gate.open(iteration))
    losses = [loss for loss in step.losses if loss.gate.open(iteration)]
    return (trains, losses) if trains and losses else ((), ())


def _routine(
    step: Step, trains: tuple[str, ...], losses: Sequence[Call[Loss]], iteration: int, wanted: set[str]
) -> Routine:
    """Go backwards through a step; `wanted` becomes what has to be there before it."""
    exported = {key for call in (*step.injectors, *step.losses) for key in call.writes} & wanted
    loss_actions = list(_backwards(losses, wanted))
    kept = needed((call for call in step.injectors if training(call) and call.gate.open(iteration)), wanted)
    written = {key for call in (*kept, *losses) for key in call.writes}
    injector_actions = list(_backwards(kept, wanted))
    return Routine(
        step=step,
        trains=trains,
        injectors=tuple(reversed(injector_actions)),
        losses=tuple(reversed(loss_actions)),
        exports=tuple(sorted(written & exported)),
    )


def _backwards(calls: Sequence[Call[Any]], wanted: set[str]) -> Iterable[Action]:
    """From the last call to the first, note what is dead after it; `wanted` follows along."""
    for call in reversed(calls):
        frees = tuple(sorted({*call.reads, *call.writes} - wanted))
        wanted -= set(call.writes)
        wanted |= set(call.reads)
        yield Action(call, frees)


def training(call: Call[Injector]) -> bool:
    """Whether an injector is there while training, not only while evaluating."""
    return not call.part.eval_


def needed(calls: Iterable[Call[Injector]], keys: Iterable[str]) -> list[Call[Injector]]:
    """The calls, in order, without which these keys cannot be made."""
    wanted, kept = set(keys), []
    for call in reversed(list(calls)):
        if wanted & set(call.writes):
            wanted |= set(call.reads)
            kept.append(call)
    return kept[::-1]
