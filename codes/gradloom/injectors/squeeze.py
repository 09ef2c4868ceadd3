"""Without a dimension of size one."""

from torch import Tensor

from gradloom.parts import Injector, Read, Write


class Squeeze(Injector, type="squeeze"):
    """Removes dimension `dim` where its size is 1, and leaves a tensor of any other size as it is."""

    in_: Read
    out: Write
    dim: int

    def forward(self, in_: Tensor) -> Tensor:
        return in_.squeeze(self.dim)
