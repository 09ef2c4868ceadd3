"""Sizes that are multiples of a number."""

from typing import Annotated

from annotated_types import Gt
from torch import Tensor
from torch.nn import functional as F

from gradloom.parts import Injector, Read, Write


class Pad(Injector, type="pad"):
    """Adds zeroes at the end of the last dimension until its size is a multiple of `multiple`.

    A size that is one stays as it is; the ancestor made it longer by a whole `multiple`.
    """

    in_: Read
    out: Write
    multiple: Annotated[int, Gt(0)]

    def forward(self, in_: Tensor) -> Tensor:
        return F.pad(in_, (0, -in_.shape[-1] % self.multiple))
