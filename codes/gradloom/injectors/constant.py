"""A tensor of one value."""

from typing import Literal

import torch
from torch import Tensor

from gradloom.parts import Injector, Read, Write


class Constant(Injector, type="constant"):
    """Fills a tensor with the shape, device and dtype of `like` with zeroes or ones."""

    like: Read
    out: Write
    constant_type: Literal["zeroes", "ones"]

    def forward(self, like: Tensor) -> Tensor:
        return torch.zeros_like(like) if self.constant_type == "zeroes" else torch.ones_like(like)
