"""What a network may do besides being called: methods that the trainer calls at certain moments, if it has them.

They are looked for once, when a trainer is made. They run without gradients, in each process; an averaged network's
own are called, its average's are not.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from gradloom.engine.returned import parameters
from gradloom.errors import RunError
from gradloom.raised import placed


@runtime_checkable
class UpdatesForStep(Protocol):
    """Prepares for an iteration, such as by following another network."""

    def update_for_step(self, iteration: int) -> None: ...


@runtime_checkable
class ActsAfterBackward(Protocol):
    """Looks at gradients after each micro-batch's backward pass of a step that trains it."""

    def after_backward(self, iteration: int) -> None: ...


@runtime_checkable
class ActsBeforeStep(Protocol):
    """Acts before each update of its parameters, with all gradients there, not yet clipped."""

    def before_step(self, iteration: int) -> None: ...


@runtime_checkable
class ActsAfterStep(Protocol):
    """Acts after each update of its parameters, before averages follow; not after one that was skipped on the host."""

    def after_step(self, iteration: int) -> None: ...


@runtime_checkable
class TellsNumbers(Protocol):
    """Tells numbers, logged as `debug/<network>/<name>` each `logger.print_freq` iterations."""

    def get_debug_values(self, iteration: int) -> Mapping[str, float | Tensor]: ...


@runtime_checkable
class DrawsItself(Protocol):
    """Writes images of itself into a folder of the run, each `logger.visual_debug_rate` iterations, in one process."""

    def visual_dbg(self, iteration: int, folder: Path) -> None: ...


@runtime_checkable
class GroupsItsGradients(Protocol):
    """Names some of its parameters, whose gradients' norms are logged as `<step>/grad_norm/<network>/<group>`."""

    def get_grad_norm_parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]: ...


@runtime_checkable
class HearsOfWeights(Protocol):
    """Hears when weights have been loaded into it: those that it starts from, or those of a checkpoint."""

    def network_loaded(self) -> None: ...


PROTOCOLS = (
    UpdatesForStep, ActsAfterBackward, ActsBeforeStep, ActsAfterStep,
    TellsNumbers, DrawsItself, GroupsItsGradients, HearsOfWeights,
)  # fmt: skip


class TakingPart:
    """The networks that take part in iterations, by the moment at which they do.

    Raises:
        RunError: when a method takes something else than it will be given.
    """

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        for name, network in networks.items():
            _check(name, network)
        found = networks.items()
        self.numbers = {name: one.get_debug_values for name, one in found if isinstance(one, TellsNumbers)}
        self.drawings = {name: one.visual_dbg for name, one in found if isinstance(one, DrawsItself)}
        self.groups = {n: one.get_grad_norm_parameter_groups for n, one in found if isinstance(one, GroupsItsGradients)}
        self._hears = {name: one.network_loaded for name, one in found if isinstance(one, HearsOfWeights)}
        self._updates = {name: one.update_for_step for name, one in found if isinstance(one, UpdatesForStep)}
        self._after_backward = {name: one.after_backward for name, one in found if isinstance(one, ActsAfterBackward)}
        self._before_step = {name: one.before_step for name, one in found if isinstance(one, ActsBeforeStep)}
        self._after_step = {name: one.after_step for name, one in found if isinstance(one, ActsAfterStep)}
        self.acting = [*{**self._updates, **self._after_backward, **self._before_step, **self._after_step}]

    @torch.no_grad()
    def loaded(self) -> None:
        """Weights have been loaded."""
        for name, hear in self._hears.items():
            with placed(f"networks.{name}"):
                hear()

    def begin(self, iteration: int) -> None:
        """An iteration begins."""
        _call(self._updates, self._updates, iteration)

    def after_backward(self, trained: Iterable[str], iteration: int) -> None:
        """A micro-batch's gradients have been added to those of networks that a step trains."""
        _call(self._after_backward, trained, iteration)

    def before_step(self, trained: Iterable[str], iteration: int) -> None:
        """All gradients are there."""
        _call(self._before_step, trained, iteration)

    def after_step(self, trained: Iterable[str], iteration: int) -> None:
        """Parameters have been updated."""
        _call(self._after_step, trained, iteration)

    def norms(
        self, step: str, trained: Iterable[str], norm: Callable[[Iterable[nn.Parameter]], Tensor]
    ) -> dict[str, Tensor]:
        """The norms of the gradients of those groups that networks name, by the names of metrics."""
        found: dict[str, Tensor] = {}
        for name in trained:
            if name in self.groups:
                with placed(f"networks.{name}"):
                    groups = parameters(self.groups[name](), f"networks.{name}: get_grad_norm_parameter_groups()")
                found |= {f"{step}/grad_norm/{name}/{group}": norm(some) for group, some in groups.items()}
        return found


def _call(methods: Mapping[str, Callable[[int], None]], names: Iterable[str], iteration: int) -> None:
    """Call the methods of these networks, if there are any at all."""
    if methods:
        with torch.no_grad():
            for name in names:
                if name in methods:
                    with placed(f"networks.{name}"):
                        methods[name](iteration)


def _check(name: str, network: nn.Module) -> None:
    """See that each method that a network has takes what it will be given."""
    for protocol in PROTOCOLS:
        if isinstance(network, protocol):
            (method,) = (word for word, value in vars(protocol).items() if inspect.isfunction(value) and word[0] != "_")
            wanted = [*inspect.signature(vars(protocol)[method]).parameters][1:]
            try:
                inspect.signature(getattr(network, method)).bind(*wanted)
            except TypeError as error:
                given = ", ".join(wanted) or "nothing"
                raise RunError(f"networks.{name}: its method {method!r} is given {given}, but: {error}") from error
