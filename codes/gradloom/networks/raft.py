"""A network of flows, by torchvision."""

from typing import Annotated, Literal

from annotated_types import Gt
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.optical_flow import raft_large, raft_small

from gradloom.parts import networks

_LEAST, _STEP = 128, 8  # pixels: what the smallest level of its correlations asks for, and what a feature covers


@networks.register("raft")
class Raft(nn.Module):
    """RAFT (arXiv 2003.12039): how far each pixel of one image has moved in another.

    Maps pairs (B, 3, 2, H, W) in [0, 1], the first and the second image in dimension 2, to flows (B, 2, H, W): the
    content of pixel (x, y) of the first stands at (x, y) + flow in the second, in pixels to the right and down.
    Images are continued by their borders to at least 128 pixels, and to multiples of 8.

    `pretrained_parts: {raft: <file>}` gives it weights of torchvision's, such as raft_small_C_T_V2-01064c6d.pth.
    """

    def __init__(self, size: Literal["small", "large"] = "small", updates: Annotated[int, Gt(0)] = 12) -> None:
        super().__init__()
        self.raft, self.updates = (raft_small if size == "small" else raft_large)(weights=None), updates

    def forward(self, pair: Tensor) -> Tensor:
        height, width = pair.shape[-2:]
        below, right = (max(_LEAST, -(-side // _STEP) * _STEP) - side for side in (height, width))
        first, second = (F.pad(2 * image - 1, (0, right, 0, below), mode="replicate") for image in pair.unbind(2))
        flow: Tensor = self.raft(first, second, num_flow_updates=self.updates)[-1]
        self.raft.corr_block.corr_pyramid = []  # it would hold on to the batch, and could not be copied with it
        return flow[..., :height, :width]
