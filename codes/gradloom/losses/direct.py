"""What an earlier part already made a loss of."""

from dataclasses import field
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from gradloom.config.schedules import Linear
from gradloom.parts import Loss, Read, Scalar, Scheduled, widen


class Direct(Loss, type="direct"):
    """Averages the value of a key, a tensor of any shape."""

    key: Read
    inverted: bool = False  # seek a large value rather than a small one
    annealing_termination_step: Annotated[int, Ge(0)] = 0  # grows from nothing to full until this iteration

    _annealing: Scheduled = field(default=1.0, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.annealing_termination_step:
            self.follow("_annealing", Linear(from_=0, to=1, end=self.annealing_termination_step))

    def forward(self, key: Tensor) -> Scalar:
        mean = widen(key).mean() * self._annealing
        return -mean if self.inverted else mean
