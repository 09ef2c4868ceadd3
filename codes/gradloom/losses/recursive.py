"""Whether a generator leaves alone what it made itself."""

from typing import Annotated, Any

from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gradloom.losses._criteria import Criterion, check_shapes, distance
from gradloom.losses._regenerating import check_index, regenerate
from gradloom.parts import Arguments, Loss, Net, Read, Scalar


class Recursive(Loss, type="recursive"):
    """Compares an enlarged image with what becomes of it when it is shrunk and enlarged again and again.

    `real` is the generator's output (B, C, H, W); `fake` lists the inputs that it was made from. `recursive_depth`
    times, the last output is shrunk by the nearest pixel and takes the place of one of these inputs.
    """

    generator: Net
    real: Read
    fake: Arguments
    criterion: Criterion
    recursive_depth: Annotated[int, Gt(0)]  # how many times
    downsample_factor: Annotated[float, Gt(0)]  # what the size is multiplied by, such as 0.5 where the network doubles
    input_alteration_index: Annotated[int, Ge(0)] = 0  # which of the inputs is replaced, from 0
    generator_output_index: Annotated[int, Ge(0)] | None = None  # which output is meant, where there are several

    def check(self) -> None:
        self.fake = list(self.fake) if isinstance(self.fake, list | tuple) else [self.fake]
        check_index(self.input_alteration_index, self.fake)

    def forward(self, generator: nn.Module, real: Tensor, fake: tuple[Any, ...]) -> Scalar:
        made = real
        for _ in range(self.recursive_depth):
            small = interpolate(made, scale_factor=self.downsample_factor, mode="nearest")
            made = regenerate(generator, fake, self.input_alteration_index, small, self.generator_output_index, False)
        check_shapes("recursive", made, real, ("the last output", repr(self.real)))
        return distance(self.criterion, made, real)
