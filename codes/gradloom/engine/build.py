"""Make what a plan names and a trainer works with: networks, averages, optimizers, bound calls, and so on."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn, optim
from torch.optim import Optimizer

from gradloom.config.node import Node
from gradloom.config.schedules import Schedule
from gradloom.engine.adam import LeanAdam, LeanAdamW
from gradloom.engine.averages import Average
from gradloom.engine.calls import Bound
from gradloom.engine.data.feed import iterations_in_epoch
from gradloom.engine.fanin import fan_in_factors
from gradloom.engine.grouping import groups_of
from gradloom.engine.learning import freeze_marked
from gradloom.engine.norms import share_statistics
from gradloom.engine.offload import Offloaded
from gradloom.engine.precision import Precision
from gradloom.engine.recomputing import recompute
from gradloom.engine.saving.weights import start_average_from, start_from
from gradloom.engine.sharding import Shards, refuse_second_gradients
from gradloom.engine.sharing import Sharing
from gradloom.engine.soundness import Soundness
from gradloom.engine.world import World
from gradloom.errors import RunError
from gradloom.parts import InCompany
from gradloom.plan.plan import Call, Plan, Step
from gradloom.raised import in_short, own_line

_ON_HOST = ("cpu", "meta")  # devices whose optimizers have their state in host memory, or none
_LARGE = 2**20  # numbers whose update takes longer than an optimizer's bookkeeping


def networks(plan: Plan, world: World) -> tuple[dict[str, nn.Module], list[str]]:
    """Build every network in the order of the file, from one seed, and say where their weights come from.

    Those that are not to be trained are frozen, in eval mode.
    """
    said: list[str] = []
    world.seed_alike(plan.sections.train.manual_seed)
    built: dict[str, nn.Module] = {}
    for name, network in plan.networks.items():
        try:
            module: nn.Module = network.recipe.build()
        except (TypeError, ValueError) as error:
            raise RunError(network.recipe.node.fault(f"{network.which_model} cannot be built: {error}")) from error
        except Exception as error:
            if isinstance(error, RunError) or not own_line(error):
                raise
            raise RunError(
                network.recipe.node.fault(f"{network.which_model} cannot be built: {in_short(error)}")
            ) from error
        for pretrained in network.starts:
            said.append(f"{name}: {start_from(module, pretrained, plan.sections.path.strict_load)}")
        blocks = recompute(network, module)
        if network.checkpointing:
            said.append(f"{name}: {blocks or 'no'} blocks to compute anew in backward passes")
        if network.sync_batchnorm:
            module = _sharing_statistics(module, network.sync_batchnorm, world)
        module.to(world.device)
        for one in module.modules():
            if isinstance(one, InCompany):
                one.company = world
        freeze_marked(module)
        built[name] = module if network.trainable else module.eval().requires_grad_(False)
    return built, said


def _sharing_statistics(module: nn.Module, option: Node, world: World) -> nn.Module:
    try:
        return share_statistics(module, world)
    except ValueError as error:
        raise RunError(option.fault(str(error))) from error


def averages(plan: Plan, built: Mapping[str, nn.Module]) -> tuple[dict[str, Average], list[str]]:
    """Make an average of each network that a step trains, unless its options say otherwise; say what it starts from.

    It begins as the network does, or as the average that stands beside the weights that the network starts from.
    """
    trained, said = {name for step in plan.steps for name in step.trains}, list[str]()
    made: dict[str, Average] = {}
    for name, network in plan.networks.items():
        if name in trained and network.ema:
            made[name] = Average(built[name], plan.sections.train.ema_rate)
            strict = plan.sections.path.strict_load
            told = start_average_from(made[name].network, network.pretrained, strict) if network.pretrained else ""
            said += [f"{name}: {told}"] if told else []
    return made, said


def shards(
    plan: Plan, world: World, built: Mapping[str, nn.Module], averages: Mapping[str, Average]
) -> tuple[Shards, list[str]]:
    """Spread the networks that are to be, and their averages, over the processes; say what was done."""
    made, said = Shards(world), list[str]()
    for name, network in plan.networks.items():
        if network.spread and world.processes == 1:
            said.append(f"{name}: not spread, since there is one process")
        elif network.spread:
            blocks = made.spread(built[name])
            refuse_second_gradients(built[name], network.spread.fault)
            if name in averages:
                made.spread(averages[name].network)
                averages[name].follow(built[name], made.part)
            what = "as a whole" if blocks == 1 else f"in {blocks} blocks"
            said.append(f"{name}: spread over {world.processes} processes, gathered {what}")
    return made, said


def optimizers(
    plan: Plan, built: Mapping[str, nn.Module], part: Callable[[nn.Parameter], nn.Parameter] = lambda whole: whole,
    processes: int = 1,
) -> dict[str, Optimizer]:  # fmt: skip
    """Build one optimizer for each step that declares one, over the networks it trains, or this process's part."""
    fused = plan.sections.speeds.fused
    return {step.name: _optimizer(step, built, part, fused, processes) for step in plan.steps if step.optimizer}


def _optimizer(
    step: Step, built: Mapping[str, nn.Module], part: Callable[[nn.Parameter], nn.Parameter], fused: bool | str,
    processes: int,
) -> Optimizer:  # fmt: skip
    """Build an optimizer over its groups of parameters, in the form that suits where they are."""
    planned = step.optimizer
    if planned is None:
        raise TypeError(f"{step.name} has no optimizer")
    make = planned.recipe.make
    groups = groups_of(step, built, layerwise="adapt" in inspect.signature(make).parameters)
    arguments: dict[str, Any] = {**planned.recipe.arguments}
    arguments["lr"] = 0.0 if isinstance(planned.lr, Schedule) else planned.lr
    if planned.weight_decay is not None:
        arguments["weight_decay"] = planned.weight_decay
    device = next((p.device.type for group in groups for p in group["params"]), "cpu")
    offloads = planned.offload and device not in _ON_HOST
    size = sum(parameter.numel() for group in groups for parameter in group["params"])
    if not {"foreach", "fused"} & arguments.keys():
        device = "cpu" if offloads else device
        make = _fastest(make, device, (device == "cuda" or size >= _LARGE) if fused == "auto" else bool(fused))
    if offloads:
        make = partial(Offloaded, make=make)
    elif planned.parted and processes > 1:
        from gradloom.engine.parted import Parted  # imports torch's, which takes a second

        make = partial(Parted, make=planned.recipe.make)
    try:
        groups = [{**group, "params": [*map(part, group["params"])]} for group in groups]
        optimizer: Optimizer = make(groups, **arguments)
    except (TypeError, ValueError) as error:
        raise RunError(planned.recipe.node.fault(f"the optimizer cannot be built: {error}")) from error
    return optimizer


def _fastest(make: Any, device: str, fused: bool) -> Any:
    """Choose the form of an optimizer: a lean Adam on a CPU, and torch's fused kernel where there is one."""
    has_fused = device in ("cpu", "cuda") and "fused" in inspect.signature(make).parameters
    form = {optim.Adam: LeanAdam, optim.AdamW: LeanAdamW}.get(make, make) if device == "cpu" else make
    return partial(form, fused=True) if fused and has_fused else form


def fan_in(
    plan: Plan, built: Mapping[str, nn.Module], part: Callable[[nn.Parameter], nn.Parameter]
) -> dict[nn.Parameter, float]:
    """What the gradients of weights are multiplied by for their layer's inputs, if the options ask for it."""
    sections = plan.sections
    if not sections.automatically_scale_grads_for_fanin:
        return {}
    return fan_in_factors(built.values(), sections.automatically_scale_base_layer_size, part)


def sharing(
    plan: Plan, world: World, built: Mapping[str, nn.Module], shards: Shards,
    trainable: Mapping[str, Sequence[nn.Parameter]],
) -> Sharing:  # fmt: skip
    """Make what weighs each process's work, ahead of it where a network asks other processes in its passes."""
    ahead = bool(shards) or any(network.sync_batchnorm for network in plan.networks.values())
    return Sharing(world, trainable, ahead or any(map(_talks, built.values())))


def _talks(network: nn.Module) -> bool:
    """Whether a network asks other processes in its forward passes."""
    return any(isinstance(one, InCompany) and one.asks_in_passes for one in network.modules())


def soundness(plan: Plan, built: Mapping[str, nn.Module], parts: Iterable[nn.Module], world: World) -> Soundness:
    """Make the judge of updates, which keeps the buffers of parts and of networks that train finite."""
    changing = [network for name, network in built.items() if plan.networks[name].trainable]
    return Soundness([*changing, *parts], world.device)


def precision(plan: Plan, world: World) -> Precision:
    """Make what casts and scales, with a scaler for each step that updates."""
    return Precision(plan.sections.precision, world.device, [step.name for step in plan.steps if step.updater])


def calls(
    plan: Plan, built: Mapping[str, nn.Module], emas: Mapping[str, nn.Module], world: World
) -> dict[Call[Any], Bound]:
    """Set up every part on the device, and bind it to the networks it calls."""
    known = named(built, emas)
    bound: dict[Call[Any], Bound] = {}
    for step in plan.steps:
        for call in (*step.injectors, *step.losses):
            set_up(call, world.device)
            bound[call] = Bound(call, known)
    return bound


def set_up(call: Call[Any], device: torch.device) -> None:
    """Let a part build what it owns, on the device."""
    for part in call.part.whole():
        part.setup()
    call.part.to(device)


def named(built: Mapping[str, nn.Module], emas: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Networks by the names that ports use, averages among them."""
    return {**built, **{f"{name}.ema": network for name, network in emas.items()}}


def epoch_length(plan: Plan, world: World) -> int:
    """How many batches one pass over the training data has."""
    return iterations_in_epoch(plan, world.processes)
