"""Exponential moving averages of weights, which are what one usually keeps of a generator (arXiv 1806.04498)."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """A network's average: `average = rate * average + (1 - rate) * network` after each of its updates.

    It starts as a copy. Buffers of floats, such as batch norm's statistics, are averaged too; others are copied.
    """

    def __init__(self, network: nn.Module, rate: float) -> None:
        self.network = deepcopy(network).eval().requires_grad_(False)
        self._mean = get_ema_multi_avg_fn(rate)  # type: ignore[no-untyped-call]
        self._floats: dict[tuple[torch.dtype, torch.device], tuple[list[Tensor], list[Tensor]]] = {}
        self._others: list[tuple[Tensor, Tensor]] = []
        self._source = network
        self._pair()

    def _pair(self) -> None:
        """Lay the tensors of both networks side by side."""
        self._floats, self._others = {}, []
        ours = [*self.network.parameters(), *self.network.buffers()]
        theirs = [*self._source.parameters(), *self._source.buffers()]
        for average, current in zip(ours, theirs, strict=True):
            if current.is_floating_point():
                averages, currents = self._floats.setdefault((current.dtype, current.device), ([], []))
                averages.append(average.detach())
                currents.append(current.detach())
            else:
                self._others.append((average, current))

    @torch.no_grad()
    def update(self) -> None:
        """Follow the network by one update."""
        for averages, currents in self._floats.values():
            self._mean(averages, currents, 0)
        for average, current in self._others:
            average.copy_(current)
