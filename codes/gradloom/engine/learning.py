"""Which parameters learn when: those of the networks that a step trains, but for what networks mark otherwise.

A network may set attributes of its parameters: `DO_NOT_TRAIN` keeps one as it is, `DO_NOT_TRAIN_UNTIL` does so before
an iteration, `PARAM_GROUP` names a group of `optimizer_params`.
"""

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn


def mark_of(parameter: nn.Parameter, name: str) -> Any:
    """What a network noted of a parameter, or None."""
    return vars(parameter).get(name)


def freeze_marked(network: nn.Module) -> None:
    """Freeze the parameters that are never to be trained."""
    for parameter in network.parameters():
        if mark_of(parameter, "DO_NOT_TRAIN"):
            parameter.requires_grad_(False)


class Learning:
    """Lets the parameters of some networks collect gradients, and none of the others'.

    Layers that a network froze itself stay frozen.
    """

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        self.trainable = {name: [p for p in net.parameters() if p.requires_grad] for name, net in networks.items()}
        self._names: Collection[str] = tuple(networks)
        self.starts = {
            parameter: int(start)
            for parameters in self.trainable.values()
            for parameter in parameters
            if (start := mark_of(parameter, "DO_NOT_TRAIN_UNTIL"))
        }
        self._asleep: Collection[nn.Parameter] = ()

    def waiting(self, iteration: int) -> int:
        """How many parameters wait for their iteration."""
        return sum(iteration < start for start in self.starts.values())

    def begin(self, iteration: int) -> None:
        """Keep parameters as they are whose iteration has not come."""
        if self.starts:
            asleep = {parameter for parameter, start in self.starts.items() if iteration < start}
            if asleep != self._asleep:
                self._asleep = asleep
                self._apply(self.trainable)

    def teach(self, names: tuple[str, ...]) -> None:
        """Let only these networks collect gradients."""
        if names != self._names:
            changed = {*names} ^ {*self._names}
            self._names = names
            self._apply(changed)

    def _apply(self, changed: Collection[str]) -> None:
        for name in changed:
            for parameter in self.trainable[name]:
                parameter.requires_grad_(name in self._names and parameter not in self._asleep)
