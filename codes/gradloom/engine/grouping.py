"""Sort the parameters that an optimizer updates: by their learning rate, and by whether they are weights."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn, optim

from gradloom.config.schedules import Schedule
from gradloom.engine.learning import mark_of
from gradloom.errors import RunError
from gradloom.plan.plan import Group, Step

_NO_DECAY = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d,
    nn.InstanceNorm3d, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.EmbeddingBag,
)  # fmt: skip

Parameters = dict[nn.Parameter, None]


def groups_of(step: Step, built: Mapping[str, nn.Module], layerwise: bool) -> list[dict[str, Any]]:
    """The parameter groups of a step's optimizer, each parameter once; those of its `param_groups` have their names.

    Weights are told from the rest where weight decay, clipping or a rate of each layer's own (`layerwise`) asks for it,
    but not for SGD, which decays and clips all alike, as torch's does and the ancestor's did.

    Raises:
        RunError: when no parameter belongs to one of `param_groups`.
    """
    if step.optimizer is None:
        raise TypeError(f"{step.name} has no optimizer")
    decay, modules = step.optimizer.weight_decay, [built[name] for name in step.trains]
    kinds: list[tuple[Parameters, dict[str, Any]]] = [(_trainable(modules), {})]
    tells_apart = step.optimizer.recipe.make is not optim.SGD
    if tells_apart and (decay or step.clip_grad_eps or layerwise):
        weights, others = (dict.fromkeys(_by_name(ones, modules)) for ones in split_parameters(modules))
        exempt = {"weight_decay": 0.0} if decay else {}
        kinds = [
            (weights, {"weight_decay": decay} if decay else {}),
            (others, exempt | ({"adapt": False} if layerwise else {})),
        ]
    groups = [
        {"params": [one for one in kind if one in rated], **options, **named}
        for rated, named in _by_rate(step.optimizer.groups, modules)
        for kind, options in kinds
    ]
    return [group for group in groups if group["params"]]


def _by_name(parameters: Iterable[nn.Parameter], modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Parameters in the order of their names, in which the ancestor added up their norms: sums round by their order."""
    names = {one: name for module in modules for name, one in module.named_parameters()}
    return sorted(parameters, key=names.__getitem__)


def _by_rate(groups: Sequence[Group], modules: Sequence[nn.Module]) -> list[tuple[Parameters, dict[str, Any]]]:
    """What has the common learning rate, then each group's own parameters; of several groups the first has it."""
    left, found = _trainable(modules), list[tuple[Parameters, dict[str, Any]]]()
    names = [(name, one) for module in modules for name, one in module.named_parameters()]
    for group in groups:
        own = {one: None for name, one in names if one in left and _belongs(name, one, group)}
        if not own:
            how = "its names match none" if group.patterns else "give it 'names', such as encoder.*"
            raise RunError(group.node.fault(f"no parameter that is trained belongs to it; {how}"))
        left = {one: None for one in left if one not in own}
        found.append((own, {"name": group.name, "lr": 0.0 if isinstance(group.lr, Schedule) else group.lr}))
    return [(left, {}), *found]


def _belongs(name: str, parameter: nn.Parameter, group: Group) -> bool:
    if group.patterns:
        return any(fnmatchcase(name, pattern) for pattern in group.patterns)
    return bool(mark_of(parameter, "PARAM_GROUP") == group.name)


def _trainable(modules: Iterable[nn.Module]) -> Parameters:
    return {one: None for module in modules for one in module.parameters() if one.requires_grad}


def split_parameters(modules: Iterable[nn.Module]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Split parameters, each once, into weights and those that belong to norms or embeddings or are biases."""
    weights: Parameters = {}
    others: Parameters = {}
    for module in modules:
        for owner in module.modules():
            for name, parameter in owner.named_parameters(recurse=False):
                exempt = isinstance(owner, _NO_DECAY) or name == "bias"
                (others if exempt else weights).setdefault(parameter)
    return [p for p in weights if p.requires_grad and p not in others], [p for p in others if p.requires_grad]
