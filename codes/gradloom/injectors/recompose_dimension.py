"""A dimension taken out of the batch again."""

from collections.abc import Sequence

from torch import Tensor

from gradloom.parts import Injector, Read, Write


class RecomposeDimension(Injector, type="recompose_dimension"):
    """Undoes `decompose_dimension`: the samples (D * B, ...) become slices along a dimension again.

    What was done to the samples in between has kept their shape.
    """

    in_: Read
    out: Write
    reverse_shape: Read  # what `decompose_dimension` wrote
    reverse_permute: Read

    def forward(self, in_: Tensor, reverse_shape: Sequence[int], reverse_permute: Sequence[int]) -> Tensor:
        return in_.reshape(*reverse_shape).permute(*reverse_permute).contiguous()
