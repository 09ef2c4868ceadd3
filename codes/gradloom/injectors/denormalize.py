"""Values brought back from a standard range."""

from torch import Tensor

from gradloom.parts import Injector, Read, Write


class Denormalize(Injector, type="denormalize"):
    """Maps x to x * scale + shift, which undoes `normalize`; `shift: 0.5, scale: 0.5` brings [-1, 1] to [0, 1]."""

    in_: Read
    out: Write
    shift: float
    scale: float

    def forward(self, in_: Tensor) -> Tensor:
        return in_ * self.scale + self.shift
