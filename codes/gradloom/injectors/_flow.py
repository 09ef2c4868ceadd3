"""How pixels move between two images, by a network, and images moved so.

A flow (B, 2, H, W) says for each pixel how many pixels to the right and down its content stands in the other image. A
network of flows maps two images (B, C, 2, H, W) to that, as FlowNet 2.0 (arXiv 1612.01925) and its kin do.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradloom.injectors._precision import in_full
from gradloom.parts import widen


def flow_between(network: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    """The flow from one image to another, (B, C, H, W) each, without gradients and not in half precision."""
    pair = torch.stack([widen(first), widen(second)], dim=2)
    with torch.no_grad(), in_full(pair.device):
        flow: Tensor = network(pair)
    return flow


def enlarged(flow: Tensor, factor: float) -> Tensor:
    """The flow of images that are `factor` times as large: so are its sides, and so are its numbers."""
    return F.interpolate(flow, scale_factor=factor, mode="bicubic") * factor


def warp(images: Tensor, flow: Tensor) -> Tensor:
    """Fetch each pixel (B, C, H, W) from where the flow points: bilinear, beyond the border that border's pixels."""
    height, width = images.shape[-2:]
    columns = torch.arange(width, device=flow.device) + flow[:, 0]
    rows = torch.arange(height, device=flow.device)[:, None] + flow[:, 1]
    places = torch.stack([_spread(columns, width), _spread(rows, height)], dim=-1)
    with in_full(images.device):
        return F.grid_sample(widen(images), places.to(widen(images).dtype), padding_mode="border", align_corners=True)


def _spread(places: Tensor, size: int) -> Tensor:
    """Places in pixels as places between -1 and 1."""
    return places * (2 / max(size - 1, 1)) - 1
