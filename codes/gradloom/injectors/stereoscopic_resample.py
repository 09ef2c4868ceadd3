"""Images moved by a flow."""

from torch import Tensor

from gradloom.injectors._flow import warp
from gradloom.parts import Injector, Read, Write


class StereoscopicResample(Injector, type="stereoscopic_resample"):
    """Fetches each pixel of images (B, C, H, W) from where a flow (B, 2, H, W) points: so many pixels right and down.

    Values between pixels are bilinear, those beyond the border are the border's. Gradients reach images and flow.
    """

    in_: Read
    flowfield: Read
    out: Write

    def forward(self, in_: Tensor, flowfield: Tensor) -> Tensor:
        return warp(in_, flowfield)
