"""Images of another size."""

from typing import Annotated, Literal

from annotated_types import Gt
from torch import Tensor
from torch.nn import functional as F

from gradloom.parts import Injector, Read, Write


class Interpolate(Injector, type="interpolate"):
    """Resizes (B, C, ...) by `scale_factor`, or to `size` in every direction, in a mode of torch's `interpolate`."""

    in_: Read
    out: Write
    mode: Literal["nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area"]
    scale_factor: Annotated[float, Gt(0)] | None = None
    size: Annotated[int, Gt(0)] | None = None  # pixels

    def check(self) -> None:
        if (self.scale_factor is None) == (self.size is None):
            raise ValueError("write either 'scale_factor' or 'size'")

    def forward(self, in_: Tensor) -> Tensor:
        return F.interpolate(in_, size=self.size, scale_factor=self.scale_factor, mode=self.mode)
