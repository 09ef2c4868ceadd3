"""Whether a generator treats a place alike wherever in the image it lies."""

from dataclasses import field
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from gradloom.errors import RunError
from gradloom.losses._criteria import Criterion, distance
from gradloom.losses._regenerating import check_index, regenerate
from gradloom.parts import Arguments, Loss, Net, Read, Scalar, keys_in

_CORNERS = ("top_right", "bottom_left", "bottom_right")


class Translational(Loss, type="translational"):
    """Compares what a generator makes of overlapping patches of an image, where they overlap.

    With P the `patch_size` and O the `overlap` in pixels of the output, the image is 2P - O wide and high, and patches
    lie in its corners. `real` is the generator's output (B, C, P, P) for the one at the top left; `fake` lists the
    inputs it was made from, of which one is the `out` of an injector `image_patch`. One of the other three corners is
    drawn at random for the batch; what the generator makes of its patch, which is at `<out>_top_right`,
    `<out>_bottom_left` or `<out>_bottom_right`, is compared in the O x O pixels that all four patches have in common.
    In evaluations each patch is the whole image, and all of it is compared.
    """

    generator: Net
    real: Read
    fake: Arguments
    criterion: Criterion
    patch_size: Annotated[int, Gt(0)]  # pixels of the output
    overlap: Annotated[int, Gt(0)]  # pixels of the output; less than patch_size
    detach_fake: bool = False  # the other corner's output gets no gradient
    input_alteration_index: Annotated[int, Ge(0)] = 0  # which of the inputs is the patch, from 0
    generator_output_index: Annotated[int, Ge(0)] | None = None  # which output is compared, where there are several

    corners: tuple[Read, ...] = field(default=(), init=False)

    def check(self) -> None:
        self.fake = list(self.fake) if isinstance(self.fake, list | tuple) else [self.fake]
        check_index(self.input_alteration_index, self.fake)
        patch = self.fake[self.input_alteration_index]
        if [patch] != [*keys_in(patch)]:
            raise ValueError(f"'fake' has {patch!r} where the key of a patch is wanted")
        if self.overlap >= self.patch_size:
            raise ValueError(
                f"'overlap' has to be less than 'patch_size'; {self.overlap} is not less than {self.patch_size}"
            )
        self.corners = tuple(f"{patch}_{corner}" for corner in _CORNERS)

    def forward(self, generator: nn.Module, real: Tensor, fake: tuple[Any, ...], corners: tuple[Tensor, ...]) -> Scalar:
        turn = int(torch.randint(len(_CORNERS), (), device="cpu"))
        index = self.input_alteration_index
        made = regenerate(generator, fake, index, corners[turn], self.generator_output_index, self.detach_fake)
        if not self.training:
            return distance(self.criterion, made, real)
        self._check_size(made)
        self._check_size(real)
        border = self.patch_size - self.overlap
        top, left = (0 if "bottom" in _CORNERS[turn] else border, 0 if "right" in _CORNERS[turn] else border)
        return distance(self.criterion, self._window(made, top, left), self._window(real, border, border))

    def _window(self, patch: Tensor, top: int, left: int) -> Tensor:
        return patch[:, :, top : top + self.overlap, left : left + self.overlap]

    def _check_size(self, patch: Tensor) -> None:
        if patch.shape[2:] != (self.patch_size, self.patch_size):
            wanted = f"(B, C, {self.patch_size}, {self.patch_size}), as 'patch_size' says"
            raise RunError(f"translational: the generator's patches have to be {wanted}; they are {tuple(patch.shape)}")
