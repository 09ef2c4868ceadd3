"""What a network may ask of its surroundings: sums over processes, and weights by other names."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor, nn


class Company(Protocol):
    """The processes that train together."""

    processes: int
    number: int  # of this one, from 0

    def add(self, tensor: Tensor) -> None:
        """Put the sum over all processes in the tensor's place."""


@runtime_checkable
class Adopts(Protocol):
    """A network that knows by what other names, or in what other form, weights for it are found in files."""

    def adopt(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return weights as this network names them; what it does not know stays as it is."""


class InCompany(nn.Module):
    """A module of a network that asks other processes for sums while it trains; all of them have to ask alike.

    The trainer gives it the company. Where it asks in forward passes, all processes call its network equally often.
    """

    company: Company | None = None
    asks_in_passes = True  # and not between iterations only

    def everyones(self, tensor: Tensor) -> Tensor:
        """Put the sum over all processes in the tensor's place, and return it."""
        if self.company is not None:
            self.company.add(tensor)
        return tensor
