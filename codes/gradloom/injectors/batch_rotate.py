"""Each sample beside another one of its batch."""

from torch import Tensor

from gradloom.parts import Injector, Read, Write


class BatchRotate(Injector, type="batch_rotate"):
    """Moves each sample (B, ...) one place on in its batch, and the last one to the front."""

    in_: Read
    out: Write

    def forward(self, in_: Tensor) -> Tensor:
        return in_.roll(1, dims=0)
