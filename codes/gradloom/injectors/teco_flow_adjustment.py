"""An image moved onto another one."""

from torch import Tensor, nn
from torch.nn import functional as F

from gradloom.injectors._flow import enlarged, flow_between, warp
from gradloom.parts import Injector, Net, Read, Write


class TecoFlowAdjustment(Injector, type="teco_flow_adjustment"):
    """Warps `flowed` (B, C, s H, s W) onto `flow_target` (B, C, H, W).

    The flow is what a network sees from `flow_target` to `flowed` made as small. It maps two images (B, C, 2, H, W) to
    (B, 2, H, W) in pixels, to the right and down, and is called without gradients. A flow that is enlarged s times
    points s times as far; the ancestor left its numbers as they were.
    """

    flow_network: Net
    flow_target: Read
    flowed: Read
    out: Write

    def forward(self, flow_network: nn.Module, flow_target: Tensor, flowed: Tensor) -> Tensor:
        small = F.interpolate(flowed, size=flow_target.shape[-2:], mode="bicubic")
        flow = flow_between(flow_network, flow_target, small)
        return warp(flowed, enlarged(flow, flowed.shape[-1] / flow_target.shape[-1]))
