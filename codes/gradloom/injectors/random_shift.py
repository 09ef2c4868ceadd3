"""Images moved a little."""

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from gradloom.injectors._cropping import pick, shifts
from gradloom.parts import Injector, Read, Write


class RandomShift(Injector, type="random_shift"):
    """Moves each image (..., H, W) of a batch up to `max_shift` pixels down or up, and right or left, at random.

    Pixels of the border fill what is left open (DrQ, arXiv 2004.13649, section 3). The ancestor's injector of this
    name returned its input.
    """

    in_: Read
    out: Write
    max_shift: Annotated[int, Gt(0)]  # pixels

    def forward(self, in_: Tensor) -> Tensor:
        height, width = in_.shape[-2:]
        down, right = shifts(in_, self.max_shift)
        rows = torch.arange(height, device=in_.device) - down
        columns = torch.arange(width, device=in_.device) - right
        return pick(in_, rows.clamp(0, height - 1), columns.clamp(0, width - 1))
