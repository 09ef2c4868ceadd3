"""Overlapping corners of images."""

from typing import Annotated

from annotated_types import Gt
from torch import Tensor
from torch.nn import functional as F

from gradloom.errors import RunError
from gradloom.parts import Injector, Read, Write


class ImagePatch(Injector, type="image_patch"):
    """Cuts the four corners (B, C, P, P) of images (B, C, H, W), as the loss `translational` needs them.

    With P = `patch_size`, `out` and `out_top_left` are the corner at the top left; the other keys are called after
    `out` unless they are named. In evaluations all five are the whole image. `resize` brings all of them to a square
    of that size by taking nearest pixels.

    In training the ancestor cut `out`, and nothing else, to three channels; here it has all of them, as in evaluations.
    """

    in_: Read
    out: Write
    patch_size: Annotated[int, Gt(0)]  # pixels
    resize: Annotated[int, Gt(0)] | None = None  # pixels
    out_top_left: Write | None = None  # by itself `<out>_top_left`, and so on
    out_top_right: Write | None = None
    out_bottom_left: Write | None = None
    out_bottom_right: Write | None = None

    def check(self) -> None:
        """Name the keys that have no name yet."""
        self.out_top_left = self.out_top_left or f"{self.out}_top_left"
        self.out_top_right = self.out_top_right or f"{self.out}_top_right"
        self.out_bottom_left = self.out_bottom_left or f"{self.out}_bottom_left"
        self.out_bottom_right = self.out_bottom_right or f"{self.out}_bottom_right"

    def forward(self, in_: Tensor) -> tuple[Tensor, ...]:
        size = self.patch_size
        if size > min(in_.shape[-2:]):
            raise RunError(f"image_patch: 'patch_size' is {size}, the images are {tuple(in_.shape[-2:])}; cut smaller")
        if not self.training:
            return (self._resized(in_),) * 5
        top, bottom = in_[..., :size, :], in_[..., -size:, :]
        corners = [part for row in (top, bottom) for part in (row[..., :size], row[..., -size:])]
        return tuple(self._resized(part) for part in (corners[0], *corners))

    def _resized(self, part: Tensor) -> Tensor:
        return part if self.resize is None else F.interpolate(part, size=(self.resize, self.resize), mode="nearest")
