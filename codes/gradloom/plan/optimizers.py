"""The optimizers and learning rate schemes that options may choose: torch's and ours, bound from their signatures."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import optim
from torch.optim import lr_scheduler

from gradloom.config.binding import bind, make, parameters_of
from gradloom.config.node import Node
from gradloom.config.schedules import Schedule, Scheduled
from gradloom.config.sections import Rate, Train
from gradloom.errors import Fault
from gradloom.gates import Gate
from gradloom.parts import keys_in, optimizers
from gradloom.plan import schemes
from gradloom.plan.plan import Group, Optimizer, Recipe, Step
from gradloom.registry import Registry
from gradloom.uncompiled import uncompiled

_ASK_MORE = (optim.Optimizer, optim.LBFGS)  # the latter wants the loss again and again
for _class in vars(optim).values():
    if isinstance(_class, type) and issubclass(_class, optim.Optimizer) and _class not in _ASK_MORE:
        optimizers.add(_class.__name__.lower(), _class)

lr_schemes = Registry[Any]("learning rate scheme")
_TAKE_MORE = ("LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler", "ReduceLROnPlateau")
for _name in lr_scheduler.__all__:
    if _name not in _TAKE_MORE:  # these take functions, other schedulers or a metric
        lr_schemes.add(_name, getattr(lr_scheduler, _name))
for _class in (schemes.CosineAnnealingLR_Restart, schemes.ProgressiveMultiStepLR):
    lr_schemes.add(_class.__name__, _class)
_FLAT = ("MultiStepLR", "CosineAnnealingLR_Restart", "ProgressiveMultiStepLR")


@dataclass(frozen=True, kw_only=True)
class GroupOptions:
    """What `optimizer_params` may say of some of the parameters by themselves, as `param_groups: {<group>: {...}}`.

    Those of a group have the attribute `PARAM_GROUP`, set by their network to the group's name, or names like these.
    """

    lr: Annotated[float, Ge(0)] | Schedule
    names: str | list[str] | None = None  # patterns of names in the network such as `encoder.*`; none goes by attribute

    def __post_init__(self) -> None:
        _check_rate(self.lr)


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """What every `optimizer_params` may say, beside what the optimizer itself takes."""

    lr: Annotated[float, Ge(0)] | Schedule
    weight_decay: Annotated[float, Ge(0)] | None = None  # of weights, of sgd all; none: 0, but 1e-2 of lamb, adamw_zero
    beta1: Rate | None = None
    beta2: Rate | None = None
    after: Annotated[int, Ge(0)] = 0
    before: Annotated[int, Ge(-1)] = -1  # -1 is never
    param_groups: dict[str, GroupOptions] = field(default_factory=dict)  # parameters with a learning rate of their own
    offload: bool = False  # on a GPU, keep the state in host memory and update there; slower, for want of room

    def __post_init__(self) -> None:
        _check_rate(self.lr)


def _check_rate(lr: Scheduled) -> None:
    if isinstance(lr, Schedule) and lr.bounds[0] < 0:
        raise ValueError(f"'lr' goes down to {lr.bounds[0]:g}; a learning rate is 0 or more")


_PARTED = "adamw_zero"
_COMMON = frozenset(CommonOptions.__dataclass_fields__)
NOT_FOR_OPTIMIZERS = frozenset(
    {"params", "maximize", "capturable", "differentiable", "adapt"}
)  # not for options to set


def bind_optimizer(name: Node | None, node: Node, faults: list[Fault]) -> Optimizer | None:
    """Bind a step's `optimizer` and `optimizer_params`; None when there is any fault.

    Weight decay is 0 unless it is given, as in the ancestor; an optimizer of ours has its own.
    """
    chosen = name or Node("adamw", node.mark, node.path)
    if isinstance(chosen.value, str) and chosen.value.lower() in optimizers.names:
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
            _check_parted(chosen, common, node, found)
        if _asks_for_a_closure(cls):
            found.append(
                chosen.fault(f"step() of {chosen.value} needs a closure, to ask for the loss again; choose another")
            )
        if not found and isinstance(cls, type):  # a function may ask more of parameters than these have
            everywhere = {option: value for option, value in arguments.items() if option != "fused"}
            light = uncompiled(cls)
            _try(lambda: light([torch.zeros(1, 1, requires_grad=True)], **everywhere), cls, node, found)
    faults += found
    if found or cls is None:
        return None
    groups = node.fields["param_groups"].fields if common.param_groups else {}
    return Optimizer(
        recipe=Recipe(cls, arguments, node),
        lr=common.lr,
        weight_decay=_decay(cls, common.weight_decay),
        gate=Gate(common.after, None if common.before == -1 else common.before),
        offload=common.offload,
        parted=chosen.value == _PARTED,
        groups=tuple(_group(groups[name], one) for name, one in common.param_groups.items()),
    )


def _asks_for_a_closure(cls: Callable[..., Any]) -> bool:
    """Whether an update cannot be made without one; torch's own of this kind have no name here."""
    step = cls.step if isinstance(cls, type) and issubclass(cls, optim.Optimizer) else lambda self: None
    return any(one.default is one.empty for one in [*inspect.signature(step).parameters.values()][1:])


def _decay(cls: Callable[..., Any], given: float | None) -> float | None:
    """The weight decay: as given, else 0 of torch's optimizers, and of others their own; None where there is none."""
    defaults = {name: default for name, _, default in parameters_of(cls)}
    if "weight_decay" not in defaults:
        return None
    own = 0.0 if cls.__module__.startswith("torch.") else defaults["weight_decay"]
    return own if given is None else given


def _group(node: Node, options: GroupOptions) -> Group:
    return Group(node.path.rpartition(".")[2], options.lr, tuple(keys_in(options.names)), node)


def _check_parted(name: Node, common: CommonOptions, node: Node, faults: list[Fault]) -> None:
    if name.value == _PARTED and common.offload:
        faults.append(node.fields["offload"].fault(f"{_PARTED} has its state in parts already; remove one"))


def _try(make: Callable[[], Any], cls: Callable[..., Any], node: Node, faults: list[Fault]) -> None:
    """See whether a class takes the options, which torch's check only when something is made of them."""
    try:
        make()
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        who = "torch refuses" if cls.__module__.startswith("torch.") else "it refuses"
        faults.append(node.fault(f"{who} this: {error}"))


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
    """Bind `default_lr_scheme`: the ancestor's three with the flat keys of `train`, or torch's with their own.

    A word chooses by name; a mapping such as `{type: StepLR, step_size: 1000}` gives options too.
    """
    if node is None or node.value is None:
        return None
    if isinstance(node.value, str) and node.value in _FLAT:
        return _ancestors(node, train, faults)
    chosen = node if isinstance(node.value, dict) else replace(node, value={"type": node})
    found: list[Fault] = []
    cls = lr_schemes.choose(chosen, "type", found)
    arguments: dict[str, Any] = {}
    if cls in (schemes.CosineAnnealingLR_Restart, schemes.ProgressiveMultiStepLR):
        found.append(node.fault(f"its options stand in 'train' itself; write only the name, {cls.__name__}"))
    elif cls is not None:
        arguments = bind(cls, chosen, found, {"type"}, NOT_FOR_SCHEMES)
        if "cycle_momentum" in inspect.signature(cls).parameters:
            arguments["cycle_momentum"] = False
        if not found:
            _try(lambda: schemes.TorchScheme(cls, arguments).lr(0.1, 1), cls, node, found)
        if cls is lr_scheduler.OneCycleLR and not found:  # beyond its end it raises
            end = arguments.get("total_steps") or arguments["epochs"] * arguments["steps_per_epoch"]
            if end < train.niter:
                found.append(node.fault(f"it ends after {end} iterations, train.niter is {train.niter}; make them one"))
    faults += found
    return None if found else Recipe(schemes.TorchScheme, {"make": cls, "arguments": arguments}, node)


NOT_FOR_SCHEMES = frozenset({"optimizer", "last_epoch", "verbose", "scale_fn", "cycle_momentum"})


def check_starts(scheme: Recipe, steps: Iterable[Step], faults: list[Fault]) -> None:
    """See that a progressive scheme has a start for each parameter group of every step."""
    if scheme.make is not schemes.ProgressiveMultiStepLR:
        return
    for step in steps:
        needed = 1 + len(step.optimizer.groups) if step.optimizer else 0
        if needed > len(scheme.arguments["starts"]):
            counted = "one for what is in none of param_groups, and one for each of these"
            got = len(scheme.arguments["starts"])
            what = f"{step.name} needs {needed} 'progressive_starts', {counted}, in their order; got {got}"
            faults.append(scheme.node.fault(what))


def _ancestors(node: Node, train: Train, faults: list[Fault]) -> Recipe | None:
    restarts = list(zip(train.restarts, train.restart_weights or [1.0] * len(train.restarts), strict=True))
    arguments: dict[str, Any]
    cls: Callable[..., Any]
    if node.value == "ProgressiveMultiStepLR":
        arguments = {"milestones": train.gen_lr_steps, "gamma": train.lr_gamma, "starts": train.progressive_starts}
        return Recipe(schemes.ProgressiveMultiStepLR, arguments, node)
    if node.value == "MultiStepLR":
        cls = schemes.MultiStepLR
        arguments = {"milestones": sorted(train.gen_lr_steps), "gamma": train.lr_gamma, "force_lr": train.force_lr}
    else:
        cls = schemes.CosineAnnealingLR_Restart
        restarts = restarts or ([(0, 1.0)] if len(train.T_period) > 1 else [])  # the ancestor's, where it has a period
        arguments = {"periods": train.T_period, "hold": train.warmup, "eta_min": train.eta_min}
    try:
        cls(**arguments, restarts=restarts)
    except ValueError as error:
        faults.append(node.fault(str(error)))
        return None
    return Recipe(cls, {**arguments, "restarts": restarts}, node)
