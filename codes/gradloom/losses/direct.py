"""What an earlier part already made a loss of."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from gradloom.config.schedules import Linear
from gradloom.errors import RunError
from gradloom.parts import Loss, Metrics, Read, Scalar, Scheduled, widen


class Direct(Loss, type="direct"):
    """Averages the value of a key, a tensor of any shape.

    A network that works out its own loss may tell more: what `metrics` names is a mapping of numbers and tensors by
    name, each logged by its mean.
    """

    key: Read
    metrics: Read | None = None  # such as the second thing that the network returned
    inverted: bool = False  # seek a large value rather than a small one
    annealing_termination_step: Annotated[int, Ge(0)] = 0  # grows from nothing to full until this iteration

    _annealing: Scheduled = field(default=1.0, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.annealing_termination_step:
            self.follow("_annealing", Linear(from_=0, to=1, end=self.annealing_termination_step))

    def forward(self, key: Tensor, metrics: Any) -> Scalar | tuple[Scalar, Metrics]:
        mean = widen(key).mean() * self._annealing
        loss = -mean if self.inverted else mean
        return loss if self.metrics is None else (loss, self._numbers(metrics, loss))

    def _numbers(self, metrics: Any, like: Tensor) -> Metrics:
        """The means of what the metrics are, on the device of the loss."""
        if not isinstance(metrics, Mapping):
            got = f"a mapping of numbers, got a {type(metrics).__name__}"
            raise RunError(f"direct: what 'metrics' names, {self.metrics!r}, has to be {got}")
        odd = [name for name, value in metrics.items() if not isinstance(value, Tensor | int | float)]
        if odd:
            got = type(metrics[odd[0]]).__name__
            raise RunError(f"direct: {odd[0]!r} of {self.metrics!r} has to be a number or a tensor, got a {got}")
        tensors = {str(name): torch.as_tensor(value, device=like.device) for name, value in metrics.items()}
        return {name: value.detach().to(like.dtype).mean() for name, value in tensors.items()}
