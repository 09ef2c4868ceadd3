"""The blocks of diffusion's U-Nets, which are told how noisy their input is."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradloom.parts import widen

Resize = Callable[[Tensor], Tensor]


class GroupNorm(nn.GroupNorm):
    """Group norm that is computed in float32 at least."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) to the same."""
        return super().forward(widen(x)).to(x.dtype)


def group_norm(channels: int) -> GroupNorm:
    """Group norm with the ancestor's number of groups, which is guided-diffusion's 32 where there are over 64 channels.

    8 groups up to 16 channels, 16 up to 64, then 32; halved until they divide the channels. Raises a `ValueError` for
    channels that 4 does not divide.
    """
    if channels % 4:
        raise ValueError(f"'model_channels' has to be a multiple of 4, for the groups of its norms; {channels} is not")
    groups = 8 if channels <= 16 else 16 if channels <= 64 else 32
    return GroupNorm(math.gcd(groups, channels), channels)


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with all its weights at zero, so that its block at first adds nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def embedded(timesteps: Tensor, width: int) -> Tensor:
    """Cosines, then sines, of timesteps (B,) at half of `width` frequencies from 1 down to 1 / 10000: (B, width).

    Vaswani et al. 2017 (arXiv 1706.03762), section 3.5, as in Ho et al. 2020 (arXiv 2006.11239), appendix B. An odd
    width ends in a zero.
    """
    half = width // 2
    places = torch.arange(half, device=timesteps.device, dtype=torch.float32) / half
    angles = timesteps[:, None].float() * (-math.log(10000) * places).exp()
    return F.pad(torch.cat([angles.cos(), angles.sin()], 1), (0, width % 2))


class Timed(nn.Sequential):
    """Layers in a row, of which the residual blocks are given the embedding too."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]
        """Features (B, C, H, W) and an embedding (B, E) to features."""
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, Residual) else layer(x)
        return x


class Residual(nn.Module):
    """A residual block (B, in_, H, W) to (B, out, H, W), to which an embedding (B, E) is added or that it modulates.

    Dhariwal and Nichol 2021 (arXiv 2105.05233), section 3: with `modulates` the embedding scales and shifts what its
    second norm returns. `resize` makes the image larger or smaller between the first norm and its convolution.
    """

    def __init__(
        self, in_: int, out: int, embedding: int, dropout: float, modulates: bool,
        resize: Resize | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.modulates, self.resize = modulates, resize
        self.in_layers = nn.Sequential(group_norm(in_), nn.SiLU(), nn.Conv2d(in_, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, out * (2 if modulates else 1)))
        last = zeroed(nn.Conv2d(out, out, 3, padding=1))
        self.out_layers = nn.Sequential(group_norm(out), nn.SiLU(), nn.Dropout(dropout), last)
        self.skip_connection = nn.Identity() if in_ == out else nn.Conv2d(in_, out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Features to features."""
        norm, act, first = self.in_layers
        inner = act(norm(x))
        if self.resize is not None:
            x, inner = self.resize(x), self.resize(inner)
        inner = first(inner)
        told = self.emb_layers(embedding).to(inner.dtype)[:, :, None, None]
        norm, act, drop, last = self.out_layers
        if self.modulates:
            scale, shift = told.chunk(2, 1)
            inner = norm(inner) * (1 + scale) + shift
        else:
            inner = norm(inner + told)
        result: Tensor = self.skip_connection(x) + last(drop(act(inner)))
        return result


def doubled(x: Tensor) -> Tensor:
    """Each pixel four times, (B, C, H, W) to (B, C, 2H, 2W)."""
    return F.interpolate(x, scale_factor=2.0)


def halved(x: Tensor) -> Tensor:
    """Means of 2x2 pixels, (B, C, H, W) to (B, C, H/2, W/2)."""
    return F.avg_pool2d(x, 2)


class Upsample(nn.Module):
    """Makes features twice as large, with a convolution if it is `learned`."""

    def __init__(self, channels: int, learned: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if learned else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 2H, 2W)."""
        larger = doubled(x)
        return larger if self.conv is None else self.conv(larger)


class Downsample(nn.Module):
    """Makes features half as large, by a convolution if it is `learned`, else by means."""

    def __init__(self, channels: int, learned: bool) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, 2, 1) if learned else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H/2, W/2)."""
        smaller: Tensor = self.op(x)
        return smaller


class Attention(nn.Module):
    """Lets all places of an image see one another, (B, C, H, W) to the same.

    `chunked` tells queries, keys and values apart first and heads then, which are otherwise told apart first: the two
    orders in which weights are published.
    """

    def __init__(self, channels: int, heads: int, chunked: bool) -> None:
        super().__init__()
        self.heads, self.chunked = heads, chunked
        self.norm = group_norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Features to features."""
        flat = x.flatten(2)
        size, channels, places = flat.shape
        all_three = self.qkv(self.norm(flat))
        if self.chunked:
            parts = all_three.reshape(size, 3, self.heads, -1, places).unbind(1)
        else:
            parts = all_three.reshape(size, self.heads, 3, -1, places).unbind(2)
        q, k, v = (part.transpose(2, 3) for part in parts)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(size, channels, places)
        result: Tensor = (flat + self.proj_out(seen)).reshape(x.shape)
        return result
