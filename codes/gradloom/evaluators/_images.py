"""Images as metrics want them."""

import torch
from torch import Tensor

from gradloom.evaluators._scores import precise

LUMA = (65.481, 128.553, 24.966)
"""What red, green and blue from 0 to 1 add to the luma of ITU-R BT.601, which goes from 16 to 235."""


def check_range(range: tuple[float, float]) -> None:
    """Raise a `ValueError` unless a value range goes upwards."""
    if not range[0] < range[1]:
        raise ValueError(f"range goes from a lower to a higher value, not from {range[0]:g} to {range[1]:g}")


def to_unit(images: Tensor, range: tuple[float, float]) -> Tensor:
    """Map images whose values lie in `range` to float64 in [0, 1]; what lies outside is clamped."""
    low, high = range
    return ((precise(images) - low) / (high - low)).clamp(0, 1)


def to_bytes(images: Tensor, range: tuple[float, float]) -> Tensor:
    """Map images whose values lie in `range` to the nearest of 0 to 255, as uint8."""
    return (to_unit(images, range) * 255).round().to(torch.uint8)


def to_luma(images: Tensor) -> Tensor:
    """Turn RGB images (B, 3, H, W) in [0, 1] into their luma (B, 1, H, W), from 16/255 to 235/255.

    It is the Y of MATLAB's `rgb2ycbcr`, on which papers on super-resolution measure.
    """
    weights = images.new_tensor(LUMA).view(3, 1, 1)
    return (16 + (images * weights).sum(1, keepdim=True)) / 255
