"""Exponential moving averages of weights, which are what one usually keeps of a generator (arXiv 1806.04498)."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from gradloom.config.schedules import Schedule, Scheduled, at


class Average:
    """A network's average: `average = rate * average + (1 - rate) * network` after each of its updates.

    It starts as a copy; a rate that is a schedule has the value of the last `advance`. Buffers of floats, such as batch
    norm's statistics, are averaged too; others are copied.
    """

    def __init__(self, network: nn.Module, rate: Scheduled) -> None:
        self.network = deepcopy(network).eval().requires_grad_(False)
        self._scheduled = rate
        self.rate = at(rate, 0, 1)
        self.follow(network)
        pairs = zip(self.network.modules(), network.modules(), strict=True)
        self._buffers = [
            (ours, theirs, name) for ours, theirs in pairs for name, _ in theirs.named_buffers(recurse=False)
        ]

    def follow(self, network: nn.Module, part: Callable[[nn.Parameter], nn.Parameter] = lambda whole: whole) -> None:
        """Average this network's parameters, or of each the part that lies in this process."""
        pairs = zip(self.network.parameters(), network.parameters(), strict=True)
        self._parameters = [(part(ours), part(theirs)) for ours, theirs in pairs]

    def advance(self, iteration: int, epoch_length: Callable[[], int]) -> None:
        """Give the rate its value of an iteration."""
        if isinstance(self._scheduled, Schedule):
            self.rate = at(self._scheduled, iteration, epoch_length() if self._scheduled.unit == "epoch" else 1)

    @torch.no_grad()
    def update(self) -> None:
        """Follow the network by one update."""
        groups: dict[tuple[torch.dtype, torch.device], tuple[list[Tensor], list[Tensor]]] = {}
        # A module may put another tensor in a buffer's place, so each is looked up anew; parameters stay what they are.
        buffers = [(ours.get_buffer(name), theirs.get_buffer(name)) for ours, theirs, name in self._buffers]
        for average, current in (*self._parameters, *buffers):
            if current.is_floating_point():
                averages, currents = groups.setdefault((current.dtype, current.device), ([], []))
                averages.append(average)
                currents.append(current)
            else:
                average.copy_(current)
        for averages, currents in groups.values():
            torch._foreach_lerp_(averages, currents, 1 - self.rate)
