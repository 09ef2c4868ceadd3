"""Time a network forward and backward, on inputs like those that a run gave it."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from gradloom.engine.containers import each, tensors
from gradloom.engine.data.samples import random_numbers_put_aside
from gradloom.engine.precision import Precision

_ROUNDS = 4  # timed: as it is, changed, as it is
_GAIN = 0.95  # the share of the time that a change has to get below


@dataclass(frozen=True)
class Inputs:
    """What a network was called with: tensors are copies, which want gradients where the run's did."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Inputs":
        return cls(*each((args, kwargs), _copy))

    def shapes(self) -> list[str]:
        """The types and shapes of the tensors, in order."""
        return [f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in tensors((self.args, self.kwargs))]

    def size(self) -> int:
        """How many numbers there are."""
        return sum(tensor.numel() for tensor in tensors((self.args, self.kwargs)))


class Trial:
    """Compares copies of a network, which may be changed; the network and the run's random numbers stay as they are.

    The parameters in `learning` get gradients, whatever the network is used for at the moment.
    """

    def __init__(
        self, network: nn.Module, learning: Collection[str], inputs: Inputs, device: torch.device, precision: Precision
    ) -> None:
        self._network, self._inputs, self._device, self._precision = network, inputs, device, precision
        self._learning, self._devices = learning, [device] if device.type == "cuda" else []

    @cached_property
    def operations(self) -> int:
        """Multiplications and additions of a pass, in products of matrices and convolutions."""
        from torch.utils.flop_counter import FlopCounterMode  # takes 70 MB, which few runs need

        with self._aside(), FlopCounterMode(display=False) as counter:
            self._pass(self._copy())
        return int(counter.get_total_flops())

    @cached_property
    def seconds(self) -> float:
        """How long a pass takes."""
        return min(self._times(lambda _: None, 2))

    def share(self, change: Callable[[nn.Module], None], deadline: float) -> float:
        """The time of a changed copy, as a share of the network's as it is before and after; raises what it raises.

        There is one copy at a time. After the deadline, by the clock of `time.monotonic`, each runs once more at most.
        """
        rounds = _ROUNDS if time.monotonic() < deadline else 1
        before = self._times(lambda _: None, rounds)
        changed = self._times(change, rounds)
        return median(changed) / median([*before, *self._times(lambda _: None, rounds)])

    def _times(self, change: Callable[[nn.Module], None], rounds: int) -> list[float]:
        """Seconds of so many passes of a copy, after one in eval mode and one to warm up."""
        with self._aside():
            copy = self._copy()
            change(copy)
            with torch.no_grad():
                self._call(copy.eval())
            copy.train(self._network.training)
            self._pass(copy)
            return [self._pass(copy) for _ in range(rounds)]

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """The run's random numbers stay as they are."""
        with random_numbers_put_aside(), torch.random.fork_rng(self._devices):
            yield

    def _copy(self) -> nn.Module:
        copy = deepcopy(self._network)
        for name, parameter in copy.named_parameters():
            parameter.requires_grad_(name in self._learning)
        return copy

    def _call(self, network: nn.Module) -> Any:
        with self._precision.cast():
            return network(*self._inputs.args, **self._inputs.kwargs)

    def _pass(self, network: nn.Module) -> float:
        """Seconds that one pass takes, with gradients where the run has them."""
        _wait(self._device)
        began = time.perf_counter()
        outputs = [one for one in tensors(self._call(network)) if one.requires_grad]
        if outputs:
            torch.autograd.backward(outputs, [torch.ones_like(one) for one in outputs])
        _wait(self._device)
        took = time.perf_counter() - began
        network.zero_grad()
        for tensor in tensors((self._inputs.args, self._inputs.kwargs)):
            tensor.grad = None
        return took


def gains(share: float) -> bool:
    """Whether a change is worth it."""
    return share < _GAIN


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)
