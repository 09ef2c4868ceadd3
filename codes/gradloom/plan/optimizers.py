"""The optimizers and learning rate schemes that options may choose: torch's, bound from their signatures."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import optim
from torch.optim import lr_scheduler

from gradloom.config.binding import bind, make, parameters_of
from gradloom.config.node import Node
from gradloom.config.schedules import Schedule
from gradloom.config.sections import Rate, Train
from gradloom.errors import Fault
from gradloom.gates import Gate
from gradloom.plan import schemes
from gradloom.plan.plan import Optimizer, Recipe
from gradloom.registry import Registry

optimizers = Registry[optim.Optimizer]("optimizer")
_ASK_MORE = (optim.Optimizer, optim.LBFGS)  # the latter wants the loss again and again
for _class in vars(optim).values():
    if isinstance(_class, type) and issubclass(_class, optim.Optimizer) and _class not in _ASK_MORE:
        optimizers.add(_class.__name__.lower(), _class)

lr_schemes = Registry[Any]("learning rate scheme")
_TAKE_MORE = ("LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler", "ReduceLROnPlateau")
for _name in lr_scheduler.__all__:
    if _name not in _TAKE_MORE:  # these take functions, other schedulers or a metric
        lr_schemes.add(_name, getattr(lr_scheduler, _name))
lr_schemes.add("CosineAnnealingLR_Restart", schemes.CosineAnnealingLR_Restart)


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """What every `optimizer_params` may say, beside what the optimizer itself takes."""

    lr: Annotated[float, Ge(0)] | Schedule
    weight_decay: Annotated[float, Ge(0)] = 0.0
    beta1: Rate | None = None
    beta2: Rate | None = None
    after: Annotated[int, Ge(0)] = 0
    before: Annotated[int, Ge(-1)] = -1  # -1 is never
    offload: bool = False  # on a GPU, keep the state in host memory and update there; slower, for want of room


_COMMON = frozenset(CommonOptions.__dataclass_fields__)
NOT_FOR_OPTIMIZERS = frozenset({"params", "maximize", "capturable", "differentiable"})  # not for options to set


def bind_optimizer(name: Node | None, node: Node, faults: list[Fault]) -> Optimizer | None:
    """Bind a step's `optimizer` and `optimizer_params`; None when there is any fault.

    Weight decay is 0 unless it is given, as in the ancestor.
    """
    chosen = name or Node("adamw", node.mark, node.path)
    if isinstance(chosen.value, str) and chosen.value.lower() in optimizers.classes:
        chosen = replace(chosen, value=chosen.value.lower())
    found: list[Fault] = []
    cls = optimizers.choose(Node({"optimizer": chosen}, node.mark, node.path), "optimizer", found)
    if not isinstance(node.value, dict):
        found.append(node.fault(f"expected options such as 'lr', got {node.show()}"))
    elif cls is not None:
        takes = {parameter for parameter, _, _ in parameters_of(cls)}
        arguments = bind(cls, node, found, _COMMON, NOT_FOR_OPTIMIZERS)
        ours = {option: child for option, child in node.fields.items() if option in _COMMON}
        common = make(CommonOptions, replace(node, value=ours), found)
        if common:
            _join_betas(common, takes, arguments, node, found)
            if common.weight_decay and "weight_decay" not in takes:
                found.append(node.fields["weight_decay"].fault(f"{chosen.value} has no weight decay; remove it"))
        if not found:
            everywhere = {option: value for option, value in arguments.items() if option != "fused"}
            _try(lambda: cls([torch.zeros(1, 1, requires_grad=True)], **everywhere), node, found)
    faults += found
    if found or cls is None:
        return None
    before = None if common.before == -1 else common.before
    decay = common.weight_decay if "weight_decay" in takes else None
    return Optimizer(Recipe(cls, arguments, node), common.lr, decay, Gate(common.after, before), common.offload)


def _try(make: Callable[[], Any], node: Node, faults: list[Fault]) -> None:
    """See whether torch takes the options, which it checks only when it makes something of them."""
    try:
        make()
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        faults.append(node.fault(f"torch refuses this: {error}"))


def _join_betas(
    common: CommonOptions, takes: set[str], arguments: dict[str, Any], node: Node, faults: list[Fault]
) -> None:
    """Turn the ancestor's `beta1` and `beta2` into `betas`."""
    if common.beta1 is None and common.beta2 is None:
        return
    if "betas" not in takes or "betas" in node.fields:
        why = "'betas' is there too" if "betas" in node.fields else "this optimizer has no betas"
        faults.append(node.fields["beta1" if common.beta1 is not None else "beta2"].fault(f"{why}; remove it"))
        return
    beta1 = 0.9 if common.beta1 is None else common.beta1
    arguments["betas"] = (beta1, 0.999 if common.beta2 is None else common.beta2)


def bind_lr_scheme(node: Node | None, train: Train, faults: list[Fault]) -> Recipe | None:
    """Bind `default_lr_scheme`: the ancestor's two with the flat keys of `train`, or torch's with their own.

    A word chooses by name; a mapping such as `{type: StepLR, step_size: 1000}` gives options too.
    """
    if node is None or node.value is None:
        return None
    if isinstance(node.value, str) and node.value in ("MultiStepLR", "CosineAnnealingLR_Restart"):
        return _ancestors(node, train, faults)
    chosen = node if isinstance(node.value, dict) else replace(node, value={"type": node})
    found: list[Fault] = []
    cls = lr_schemes.choose(chosen, "type", found)
    arguments: dict[str, Any] = {}
    if cls is schemes.CosineAnnealingLR_Restart:
        found.append(node.fault("its options stand in 'train' itself; write only the name, CosineAnnealingLR_Restart"))
    elif cls is not None:
        arguments = bind(cls, chosen, found, {"type"}, NOT_FOR_SCHEMES)
        if "cycle_momentum" in inspect.signature(cls).parameters:
            arguments["cycle_momentum"] = False
        if not found:
            _try(lambda: schemes.TorchScheme(cls, arguments).lr(0.1, 1), node, found)
        if cls is lr_scheduler.OneCycleLR and not found:  # beyond its end it raises
            end = arguments.get("total_steps") or arguments["epochs"] * arguments["steps_per_epoch"]
            if end < train.niter:
                found.append(node.fault(f"it ends after {end} iterations, train.niter is {train.niter}; make them one"))
    faults += found
    return None if found else Recipe(schemes.TorchScheme, {"make": cls, "arguments": arguments}, node)


NOT_FOR_SCHEMES = frozenset({"optimizer", "last_epoch", "verbose", "scale_fn", "cycle_momentum"})


def _ancestors(node: Node, train: Train, faults: list[Fault]) -> Recipe | None:
    restarts = list(zip(train.restarts, train.restart_weights or [1.0] * len(train.restarts), strict=True))
    arguments: dict[str, Any]
    cls: Callable[..., Any]
    if node.value == "MultiStepLR":
        cls = schemes.MultiStepLR
        arguments = {"milestones": sorted(train.gen_lr_steps), "gamma": train.lr_gamma, "force_lr": train.force_lr}
    else:
        cls = schemes.CosineAnnealingLR_Restart
        arguments = {"periods": train.T_period, "hold": train.warmup, "eta_min": train.eta_min}
    try:
        cls(**arguments, restarts=restarts)
    except ValueError as error:
        faults.append(node.fault(str(error)))
        return None
    return Recipe(cls, {**arguments, "restarts": restarts}, node)
