"""Several keys in one tensor."""

import torch
from torch import Tensor

from gradloom.parts import Injector, Read, Write


class Concatenate(Injector, type="concatenate"):
    """Joins tensors along dimension `dim`; their other dimensions are equal."""

    in_: tuple[Read, ...]
    out: Write
    dim: int

    def check(self) -> None:
        if not self.in_:
            raise ValueError("'in' is empty; name the keys to join")

    def forward(self, in_: tuple[Tensor, ...]) -> Tensor:
        return torch.cat(in_, self.dim)
