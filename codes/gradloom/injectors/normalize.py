"""Values brought to a standard range."""

from torch import Tensor

from gradloom.parts import Injector, Read, Write


class Normalize(Injector, type="normalize"):
    """Maps x to (x - shift) / scale; `shift: 0.5, scale: 0.5` brings [0, 1] to [-1, 1]."""

    in_: Read
    out: Write
    shift: float
    scale: float

    def check(self) -> None:
        if self.scale == 0:
            raise ValueError("'scale' divides, so it cannot be 0; write 1 to shift only")

    def forward(self, in_: Tensor) -> Tensor:
        return (in_ - self.shift) / self.scale
