"""Flows as one can look at them."""

import torch
from torch import Tensor
from torchvision.utils import flow_to_image

from gradloom.parts import Injector, Read, Write


class StereoscopicFlow2image(Injector, type="stereoscopic_flow2image"):
    """Colours flows (B, 2, H, W): images (B, 3, H, W) in [0, 1], whose hues are directions (Baker et al., IJCV 2011).

    The longest movement of each sample has full colour, and where nothing moves it is white. Nothing learns from it.
    """

    in_: Read
    out: Write

    @torch.no_grad()
    def forward(self, in_: Tensor) -> Tensor:
        coloured = torch.stack([flow_to_image(flow) for flow in in_.float()])
        return coloured.to(in_.dtype) / 255
