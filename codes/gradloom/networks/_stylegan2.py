"""The layers of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958), of plain operations that can be differentiated twice.

Weights start standard normal and are scaled at run time by the constant of He et al.'s initialisation, so that all
learn equally fast (Karras et al. 2018, arXiv 1710.10196, section 4.1). Names of weights are those of rosinality's
PyTorch version, in which converted models are passed around: they load as they are.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradloom.networks._resampling import Enlarge, Smooth

SLOPE = 0.2  # of leaky ReLU, for what is below zero


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU, scaled so that a standard normal input keeps its size."""
    return F.leaky_relu(x, SLOPE) * math.sqrt(2)


def width_at(resolution: int, channel_multiplier: float, max_channels: int) -> int:
    """How many channels features of a resolution have: 512 up to 32 pixels, then fewer by half at each doubling."""
    return max(1, min(max_channels, 512 if resolution <= 32 else int(16384 * channel_multiplier) // resolution))


class PixelNorm(nn.Module):
    """Scales each vector (B, C) to a mean square of 1 (arXiv 1710.10196, section 4.2)."""

    def forward(self, x: Tensor) -> Tensor:
        """Vectors to vectors."""
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


class EqualLinear(nn.Module):
    """A linear layer whose weights are scaled at run time, and learn `lr_mul` times as fast as others."""

    def __init__(
        self, inputs: int, outputs: int, first_bias: float = 0.0, lr_mul: float = 1.0, active: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.full((outputs,), first_bias))
        self.scale, self.lr_mul, self.active = lr_mul / math.sqrt(inputs), lr_mul, active

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) to (B, outputs)."""
        y = F.linear(x, self.weight * self.scale, self.bias * self.lr_mul)
        return activate(y) if self.active else y


class EqualConv2d(nn.Module):
    """A convolution whose weights are scaled at run time."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.stride, self.padding = 1 / math.sqrt(inputs * kernel**2), stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H', W')."""
        return F.conv2d(x, self.weight * self.scale, self.bias, self.stride, self.padding)


class BiasedActivation(nn.Module):
    """Adds a bias to each channel, then `activate`s."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, H, W) to the same."""
        return activate(x + self.bias.view(1, -1, 1, 1))


class ModulatedConv2d(nn.Module):
    """A convolution whose weights a style scales for each sample (arXiv 1912.04958, section 2.2, equations 1 to 3).

    Each input channel is scaled by what `modulation` makes of the style; `demodulate` then divides each output channel
    by the norm of the weights that made it, so that it has unit variance where the input has. As the convolution is
    linear, this scales what goes in and what comes out, which equals scaling the weights and needs no copy of them for
    each sample. With `taps` the result is twice as large, smoothed by that filter.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, style_dim: int, demodulate: bool = True,
        taps: Sequence[float] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, kernel, kernel))
        self.modulation = EqualLinear(style_dim, inputs, first_bias=1.0)
        self.scale, self.demodulate, self.padding = 1 / math.sqrt(inputs * kernel**2), demodulate, kernel // 2
        self.blur: Smooth | None = None
        if taps is not None:
            rest = len(taps) - 2 - (kernel - 1)
            self.blur = Smooth(taps, ((rest + 1) // 2 + 1, rest // 2 + 1), gain=4.0)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Features (B, inputs, H, W) and styles (B, style_dim) to features (B, outputs, H, W), or twice as large."""
        scales, weight = self.modulation(style), self.weight[0] * self.scale
        x = x * scales[:, :, None, None]
        if self.blur is None:
            y = F.conv2d(x, weight, padding=self.padding)
        else:
            y = self.blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        if not self.demodulate:
            return y
        norms = scales.square() @ weight.square().sum((2, 3)).T
        return y * torch.rsqrt(norms + 1e-8)[:, :, None, None]


class NoiseInjection(nn.Module):
    """Adds noise, one number a pixel, by a strength that is learnt (arXiv 1912.04958, section 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """Features (B, C, H, W) with noise (B or 1, 1, H, W); None draws it."""
        if noise is None:
            noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        return x + self.weight * noise


class StyledConv(nn.Module):
    """A modulated convolution, noise, bias and activation (arXiv 1912.04958, figure 2c)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, style_dim: int, taps: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(inputs, outputs, kernel, style_dim, taps=taps)
        self.noise = NoiseInjection()
        self.activate = BiasedActivation(outputs)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None = None) -> Tensor:
        """Features and styles (B, style_dim) to features, twice as large with `taps`."""
        y: Tensor = self.activate(self.noise(self.conv(x, style), noise))
        return y


class ToRGB(nn.Module):
    """Turns features into an image, and adds it to the smaller one so far (arXiv 1912.04958, figure 7b)."""

    def __init__(self, inputs: int, channels: int, style_dim: int, taps: Sequence[float] | None = None) -> None:
        super().__init__()
        self.upsample = None if taps is None else Enlarge(taps)
        self.conv = ModulatedConv2d(inputs, channels, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor, style: Tensor, smaller: Tensor | None = None) -> Tensor:
        """Features (B, inputs, H, W) and styles to an image (B, channels, H, W)."""
        image: Tensor = self.conv(x, style) + self.bias
        return image if smaller is None or self.upsample is None else image + self.upsample(smaller)


class ConstantInput(nn.Module):
    """The learnt features (1, C, 4, 4) that every image starts from."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, count: int) -> Tensor:
        """The same for each of `count` samples."""
        return self.input.expand(count, -1, -1, -1)


def minibatch_deviation(x: Tensor, group: int = 4) -> Tensor:
    """Append to features (B, C, H, W) a channel that says how much samples differ (arXiv 1710.10196, section 3).

    It holds the mean, over features and pixels, of the standard deviation within a group of samples. Sample i is in a
    group with i + n, i + 2 n, ... where there are n groups, of the most samples up to `group` that divide the batch.
    """
    batch, channels, height, width = x.shape
    size = next(size for size in range(min(group, batch), 0, -1) if batch % size == 0)
    grouped = x.view(size, batch // size, channels, height, width)
    deviations = (grouped.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
    return torch.cat([x, deviations.repeat(size).view(batch, 1, 1, 1).expand(-1, 1, height, width)], 1)
