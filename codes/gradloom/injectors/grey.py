"""Colours without colour."""

from torch import Tensor

from gradloom.parts import Injector, Read, Write


class Grey(Injector, type="grey"):
    """Sets each of three channels to the mean of all: (B, C, ...) becomes (B, 3, ...)."""

    in_: Read
    out: Write

    def forward(self, in_: Tensor) -> Tensor:
        return in_.mean(dim=1, keepdim=True).repeat_interleave(3, dim=1)
