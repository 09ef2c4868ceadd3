"""Attention over all pixels of an image, whose cost grows with their number rather than with its square."""

import torch
from torch import Tensor, nn

_HEADS, _WIDTH = 8, 64


class LinearAttention(nn.Module):
    """Features (B, C, H, W) to the same: Shen et al. 2021, "Efficient Attention" (arXiv 1812.01243), section 3.2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Conv2d(channels, _HEADS * _WIDTH, 1) for _ in range(3))
        self.to_out = nn.Conv2d(_HEADS * _WIDTH, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features to features."""
        batch, _, height, width = x.shape
        q, k, v = (layer(x).reshape(batch, _HEADS, _WIDTH, -1) for layer in (self.to_q, self.to_k, self.to_v))
        share, query = (k * _WIDTH**-0.25).softmax(3), (q * _WIDTH**-0.25).softmax(2)
        found = (share @ v.transpose(2, 3)).transpose(2, 3) @ query
        y: Tensor = self.to_out(found.reshape(batch, -1, height, width))
        return y


class Faded(nn.Module):
    """A layer's output by a strength that is learnt and starts at zero (Bachlechner et al. 2020, arXiv 2003.04887)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.fn, self.g = layer, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Features to features."""
        y: Tensor = self.fn(x) * self.g
        return y


class Added(nn.Module):
    """What a layer makes of its input, and the input itself."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.fn = layer

    def forward(self, x: Tensor) -> Tensor:
        """Features to the same."""
        y: Tensor = self.fn(x) + x
        return y


def attention(channels: int) -> nn.Sequential:
    """Attention and two layers for each pixel, which at first change nothing: (B, channels, H, W) to the same."""
    each = nn.Sequential(nn.Conv2d(channels, 2 * channels, 1), nn.LeakyReLU(0.2), nn.Conv2d(2 * channels, channels, 1))
    return nn.Sequential(Added(Faded(LinearAttention(channels))), Added(Faded(each)))


def check_layers(chosen: list[int], count: int) -> None:
    """Raise a `ValueError` for layers that a network of so many does not have."""
    if chosen and max(chosen) > count:
        raise ValueError(f"'attn_layers' are from 1 to {count} here; {max(chosen)} is none of these")
