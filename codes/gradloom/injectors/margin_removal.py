"""Images without their margins."""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from gradloom.errors import RunError
from gradloom.injectors._cropping import pick, shifts
from gradloom.parts import Injector, Read, Write


class MarginRemoval(Injector, type="margin_removal"):
    """Cuts `margin` pixels off each side: (B, ..., H, W) becomes (B, ..., H - 2 margin, W - 2 margin).

    With `random_shift_max` what is kept stands off the middle, of each sample by another whole number of pixels in
    each direction, up to so many. A shift as far as the margin, or no margin, gave the ancestor nothing at all.
    """

    in_: Read
    out: Write
    margin: Annotated[int, Ge(0)]  # pixels
    random_shift_max: Annotated[int, Ge(0)] = 0  # pixels

    def check(self) -> None:
        if self.random_shift_max > self.margin:
            raise ValueError("'random_shift_max' leads out of the image; it can be as large as 'margin'")

    def forward(self, in_: Tensor) -> Tensor:
        margin, (height, width) = self.margin, in_.shape[-2:]
        if 2 * margin >= min(height, width):
            raise RunError(f"margin_removal: a margin of {margin} leaves nothing of images {(height, width)}")
        if not self.random_shift_max:
            return in_[..., margin : height - margin, margin : width - margin]
        down, right = shifts(in_, self.random_shift_max)
        rows = torch.arange(margin, height - margin, device=in_.device)
        columns = torch.arange(margin, width - margin, device=in_.device)
        return pick(in_, rows + down, columns + right)
