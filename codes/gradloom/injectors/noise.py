"""Latents for a generator."""

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from gradloom.parts import Injector, Read, Write


class Noise(Injector, type="noise"):
    """Draws standard normal noise (B, *shape), with the batch size, device and dtype of `in`.

    For whole numbers in `in`, such as labels, the noise has torch's default dtype.
    """

    in_: Read
    out: Write
    shape: list[Annotated[int, Gt(0)]]

    def forward(self, in_: Tensor) -> Tensor:
        dtype = in_.dtype if in_.is_floating_point() else torch.get_default_dtype()
        return torch.randn(len(in_), *self.shape, device=in_.device, dtype=dtype)
