"""ESRGAN's residual-in-residual dense blocks."""

import re

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad

from gradloom.networks._first_weights import draw_small_weights
from gradloom.networks._layers import Convolution


class ResidualInResidual(nn.Module):
    """Three dense blocks and a short cut around them, (B, nf, H, W) to the same.

    With `reduce_to`, only that many channels, the first, are changed; the others are passed on as they are.
    """

    def __init__(self, nf: int, gc: int, reduce_to: int | None = None) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(nf, gc) for _ in range(3))
        self.reducer = None if reduce_to is None else Convolution(nf, reduce_to, norm=False, activation=None, bias=True)
        self.kept = 0 if reduce_to is None else nf - reduce_to

    def forward(self, x: Tensor) -> Tensor:
        """Features to features of the same shape."""
        made: Tensor = self.rdb3(self.rdb2(self.rdb1(x)))
        if self.reducer is not None:
            made = pad(self.reducer(made), (0, 0, 0, 0, 0, self.kept))
        return x.add(made, alpha=0.2)


class Bypassed(nn.Module):
    """Three dense blocks, a short cut around them, and a map (B, 1, H, W) in [0, 1] of where they take part.

    With `noise`, one batch in five gets noise from U(0, 0.02) on its map while training, so that a map that has become
    0 is tried again. `bypass_map` is the last map.
    """

    def __init__(self, nf: int, gc: int, noise: bool = False) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(nf, gc) for _ in range(3))
        self.bypass = nn.Sequential(
            Convolution(2 * nf, nf, activation="silu", bias=True),
            Convolution(nf, nf // 2, norm=False, activation="silu"),
            Convolution(nf // 2, 1, norm=False, activation=None),
            nn.Sigmoid(),
        )
        self.noise = noise
        self.bypass_map: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Features to features of the same shape."""
        made: Tensor = self.rdb3(self.rdb2(self.rdb1(x)))
        part: Tensor = self.bypass(torch.cat([x, made], 1))
        if self.noise and self.training:
            chosen = torch.rand((), device=part.device) < 0.2
            part = (part + torch.rand_like(part) * 0.02 * chosen).clamp(0, 1)
        self.bypass_map = part.detach()
        return x.add(made * part, alpha=0.2)


class DenseBlock(nn.Module):
    """Four layers that each see all before them, and a fifth that sums them up, (B, nf, H, W) to the same."""

    def __init__(self, nf: int, gc: int) -> None:
        super().__init__()
        for i, width in enumerate((gc, gc, gc, gc, nf)):
            layer = nn.Conv2d(nf + i * gc, width, 3, padding=1)
            draw_small_weights(layer)
            self.add_module(f"conv{i + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        """Features to features of the same shape."""
        *growing, last = self.children()
        features = x
        for layer in growing:
            features = torch.cat([features, leaky_relu(layer(features), 0.2)], 1)
        return x.add(last(features), alpha=0.2)


_FIRST_NAMES = (
    (r"\bRRDB_trunk\.(\d+)\.RDB(\d)\.", r"body.\1.rdb\2."),
    (r"\btrunk_conv\.", "conv_body."),
    (r"\bupconv(\d)\.", r"conv_up\1."),
    (r"\bHRconv\.", "conv_hr."),
)


def renamed(name: str) -> str:
    """The name of a weight of ESRGAN's and SRFlow's first releases, as it is now; any other as it is."""
    for pattern, now in _FIRST_NAMES:
        name = re.sub(pattern, now, name)
    return name
