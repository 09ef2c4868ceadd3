"""Values of single samples, kept until all of them are averaged."""

import torch
from torch import Tensor

from gradloom.errors import RunError


def precise(value: Tensor) -> Tensor:
    """Bring a tensor out of the graph and to float64; it leaves its device only if that is MPS, which has none."""
    value = value.detach()
    return (value.cpu() if value.device.type == "mps" else value).double()


class Scores:
    """One float64 number for each sample, left on its device until asked for.

    However the samples are split into batches, each counts once.
    """

    def __init__(self, name: str) -> None:
        self.name, self.batches, self.count = name, list[Tensor](), 0

    def add(self, values: Tensor) -> None:
        """Take in the values (B,) of a batch."""
        self.batches.append(precise(values))
        self.count += len(values)

    def mean(self) -> float:
        """The average over all samples; raises `RunError` where there were none."""
        return float(self._values().mean())

    def each(self) -> list[float]:
        """The values, in the order of the samples; raises `RunError` where there were none."""
        return [float(value) for value in self._values().cpu()]

    def _values(self) -> Tensor:
        if not self.count:
            raise RunError(f"{self.name}: there was nothing to measure; is the validation set empty?")
        return torch.cat(self.batches)
