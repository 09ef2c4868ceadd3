"""Random parts of images, brought to one size."""

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from gradloom.errors import RunError
from gradloom.injectors._cropping import pick
from gradloom.parts import Injector, Read, Write


class RandomCrop(Injector, type="random_crop"):
    """Cuts a square out of each image (B, ..., dim_in, dim_in), and brings it to (B, ..., dim_out, dim_out).

    The square's area is a share of the image's that is uniform between dim_out / dim_in and 1, so that nothing is
    enlarged; where it lies is uniform, too. Pixel i of the result is the square's at (i + 1/2) side / dim_out. The
    ancestor's were up to 1 % higher than wide.
    """

    in_: Read
    out: Write
    dim_in: Annotated[int, Gt(0)]  # pixels
    dim_out: Annotated[int, Gt(0)]  # pixels

    def check(self) -> None:
        if self.dim_out > self.dim_in:
            raise ValueError("'dim_out' is larger than 'dim_in'; a crop does not enlarge")

    def forward(self, in_: Tensor) -> Tensor:
        if in_.shape[-2:] != (self.dim_in, self.dim_in):
            raise RunError(f"random_crop: 'dim_in' is {self.dim_in}, the images are {tuple(in_.shape[-2:])}")
        least = self.dim_out / self.dim_in
        area, top, left = torch.rand(3, len(in_), 1, device=in_.device).unbind()
        side = self.dim_in * (least + (1 - least) * area).sqrt()
        within = (torch.arange(self.dim_out, device=in_.device) + 0.5) * side / self.dim_out
        rows, columns = (within + start * (self.dim_in - side) for start in (top, left))
        return pick(in_, self._pixels(rows), self._pixels(columns))

    def _pixels(self, places: Tensor) -> Tensor:
        return places.long().clamp(0, self.dim_in - 1)
