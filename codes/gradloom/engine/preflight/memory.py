"""How much memory a run will take."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from gradloom.engine import build
from gradloom.engine.containers import num_bytes
from gradloom.engine.preflight.findings import Findings, doubtful
from gradloom.engine.preflight.models import Models
from gradloom.engine.preflight.rehearsal import Rehearsal
from gradloom.engine.preflight.words import amount
from gradloom.errors import Fault, RunError
from gradloom.plan.plan import Plan

_HEAVIEST = 4  # patterns of open gates that are weighed: those in which most is called


@dataclass(frozen=True)
class Memory:
    """Bytes, by what they are for; libraries' workspaces and the allocator's reserve come on top."""

    weights: int  # and buffers
    averages: int
    optimizers: int
    gradients: int  # of the step that trains most
    activations: int  # the batch, what backward passes need and what passes through
    peak: int  # the most that is alive in an iteration, all of the above included
    whole: bool = True  # whether all calls could be followed; otherwise it takes more


def optimizers(plan: Plan, models: Models, findings: Findings) -> dict[str, Optimizer]:
    """Build the optimizers on weights without values, and let each act once, so that its state is there.

    One that cannot is left without state.
    """
    if models.networks.keys() != plan.networks.keys():
        return {}
    try:
        built = build.optimizers(plan, models.networks)
    except RunError as error:
        if error.fault and not doubtful(error):
            findings.fault(error.fault)
        return {}
    except RuntimeError:  # some are made for certain devices only
        return {}
    for optimizer in built.values():
        _act_once(optimizer)
    return built


def _act_once(optimizer: Optimizer) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    try:
        optimizer.step()
    except (RuntimeError, TypeError, ValueError):  # it looks at values
        optimizer.state.clear()
    for parameter in parameters:
        parameter.grad = None


def state_bytes(plan: Plan, models: Models, built: Mapping[str, Optimizer], offloaded: bool = True) -> int:
    """What all optimizers remember, or all but those offloaded; twice the weights where that could not be seen."""
    total = 0
    for step in plan.steps:
        if step.optimizer and (offloaded or not step.optimizer.offload):
            state = built[step.name].state if step.name in built else {}
            seen = {str(place): value for place, value in enumerate(state.values())}
            stateless = step.name in built and step.optimizer.recipe.make is torch.optim.SGD
            total += num_bytes(seen) if seen or stateless else 2 * _trained_bytes(models, step.trains)
    return total


def estimate(
    plan: Plan, models: Models, rehearsal: Rehearsal, built: Mapping[str, Optimizer],
    iterations: Iterable[int], batch: Mapping[str, Any], device: torch.device,
) -> Memory:  # fmt: skip
    """Weigh the iterations in which most is called."""
    state = state_bytes(plan, models, built, offloaded=device.type == "cpu")
    weights = sum(map(_whole_bytes, models.networks.values()))
    averages = sum(_whole_bytes(average.network) for average in models.averages.values())
    gradients = max((_trained_bytes(models, step.trains) for step in plan.steps), default=0)
    moving = max(
        (rehearsal.weigh(iteration, batch, built, device) for iteration in heaviest(plan, iterations)), default=0
    )
    return Memory(weights, averages, state, gradients, max(0, moving - gradients), weights + averages + state + moving)


def heaviest(plan: Plan, iterations: Iterable[int]) -> list[int]:
    """Those iterations in which most is called."""
    return sorted(iterations, key=lambda iteration: -_num_calls(plan, iteration))[:_HEAVIEST]


def too_much(plan: Plan, memory: Memory, device: torch.device) -> list[Fault]:
    """A notice where the device has less than the run seems to need."""
    if plan.document.root is None or device.type not in ("cpu", "cuda"):
        return []
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    whole = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else pages
    if memory.peak <= whole:
        return []
    finds = plan.sections.train.mega_batch_factor == "auto"
    mend = "micro-batches will be tried" if finds else "lower batch_size, or raise train.mega_batch_factor"
    needs = f"an iteration seems to need {amount(memory.peak)}, but {device} has {amount(whole)}"
    return [plan.document.root.fault(f"{needs}; {mend}")]


def changes_nothing(plan: Plan, device: torch.device) -> list[Fault]:
    """A notice where an optimizer's state is to leave the GPU, and there is none."""
    asked = [step.optimizer.recipe.node for step in plan.steps if step.optimizer and step.optimizer.offload]
    if device.type != "cpu":
        return []
    return [node.fields["offload"].fault("the run is on the CPU, where the state is anyway") for node in asked]


def _num_calls(plan: Plan, iteration: int) -> int:
    program = plan.program(iteration, frozenset(plan.sections.logger.visuals))
    return sum(len(routine.injectors) + len(routine.losses) for routine in program.routines)


def _whole_bytes(network: torch.nn.Module) -> int:
    return num_bytes([*network.parameters(), *network.buffers()])


def _trained_bytes(models: Models, names: Iterable[str]) -> int:
    there = [models.networks[name] for name in names if name in models.networks]
    return sum(num_bytes([p for p in network.parameters() if p.requires_grad]) for network in there)
