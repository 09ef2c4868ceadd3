"""Filters that smooth, enlarge and shrink images, as sums over pixels that torch can differentiate twice."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def square_kernel(taps: Sequence[float]) -> Tensor:
    """The filter (K, K) whose rows and columns are `taps`, with the sum 1; a `ValueError` where they sum to nothing."""
    if not sum(taps):
        raise ValueError(f"a filter's numbers have a sum other than 0, such as [1, 3, 3, 1]; got {list(taps)}")
    line = torch.tensor(taps, dtype=torch.float32)
    kernel = torch.outer(line, line)
    return kernel / kernel.sum()


def upfirdn(x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Put zeros between the pixels of (B, C, H, W), pad, convolve each channel, keep every `down`-th pixel.

    `kernel` is of (K, K); `pad` says how many zeros come first and last, along height and width alike. H becomes
    (up * H + pad[0] + pad[1] - K) // down + 1. Crochiere and Rabiner 1983, "Multirate digital signal processing".
    """
    if up > 1:
        batch, channels, height, width = x.shape
        x = F.pad(x.reshape(batch, channels, height, 1, width, 1), (0, up - 1, 0, 0, 0, up - 1))
        x = x.reshape(batch, channels, height * up, width * up)
    each = kernel.to(x.dtype).flip(0, 1).expand(x.shape[1], 1, *kernel.shape)
    return F.conv2d(F.pad(x, (*pad, *pad)), each, stride=down, groups=x.shape[1])


class Smooth(nn.Module):
    """Convolves each channel with a filter, after padding with zeros."""

    def __init__(self, taps: Sequence[float], pad: tuple[int, int], gain: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("kernel", square_kernel(taps) * gain)
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to smoother ones."""
        return upfirdn(x, self.get_buffer("kernel"), pad=self.pad)


class Enlarge(nn.Module):
    """Doubles height and width: the filter fills in between pixels, whose mean it keeps."""

    def __init__(self, taps: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("kernel", square_kernel(taps) * 4)
        self.pad = ((len(taps) - 1) // 2 + 1, (len(taps) - 2) // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to (B, C, 2 H, 2 W)."""
        return upfirdn(x, self.get_buffer("kernel"), up=2, pad=self.pad)
