"""Whether a generator treats a turned image as it treats the upright one."""

from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from gradloom.losses._criteria import Criterion, check_shapes, distance
from gradloom.losses._regenerating import check_index, regenerate
from gradloom.parts import Arguments, Loss, Net, Read, Scalar


class Geometric(Loss, type="geometric"):
    """Compares what a generator made with what it makes of the same image turned or mirrored, turned back.

    One of five changes is drawn at random for the batch: mirrored upside down, mirrored sideways, turned by 90, 180 or
    270 degrees. `real` is the generator's output (B, C, H, W); `fake` lists the inputs that it was made from.
    """

    generator: Net
    real: Read
    fake: Arguments
    criterion: Criterion
    input_alteration_index: Annotated[int, Ge(0)] = 0  # which of the inputs is changed, from 0
    generator_output_index: Annotated[int, Ge(0)] | None = None  # which output is compared, where there are several
    detach_fake: bool = False  # the changed image's output gets no gradient

    def check(self) -> None:
        self.fake = list(self.fake) if isinstance(self.fake, list | tuple) else [self.fake]
        check_index(self.input_alteration_index, self.fake)

    def forward(self, generator: nn.Module, real: Tensor, fake: tuple[Any, ...]) -> Scalar:
        quarters, mirrored = _CHANGES[int(torch.randint(len(_CHANGES), (), device="cpu"))]
        index = self.input_alteration_index
        altered = _mirror(fake[index], mirrored).rot90(quarters, (2, 3))
        made = regenerate(generator, fake, index, altered, self.generator_output_index, self.detach_fake)
        undone = _mirror(made.rot90(-quarters, (2, 3)), mirrored)
        check_shapes("geometric", undone, real, ("the output of what was turned", repr(self.real)))
        return distance(self.criterion, undone, real)


_CHANGES = ((0, 2), (0, 3), (1, None), (2, None), (3, None))
"""Quarters of a turn, and the dimension that is mirrored."""


def _mirror(images: Tensor, dimension: int | None) -> Tensor:
    return images if dimension is None else images.flip(dimension)
