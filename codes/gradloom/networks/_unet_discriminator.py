"""The way down and up again of discriminators that judge patches."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gradloom.networks._layers import Convolution


class Descent(nn.Module):
    """Five pairs of 3x3 convolutions of which the second halves: (B, in_nc, H, W) to five feature maps.

    They have nf, 2 nf, 4 nf, 8 nf and 8 nf channels and H / 2 to H / 32 rows.
    """

    def __init__(self, in_nc: int, nf: int) -> None:
        super().__init__()
        before = in_nc
        for i in range(5):
            width = nf * min(2**i, 8)
            first = Convolution(before, width, bias=True, activation=None) if i == 0 else Convolution(before, width)
            self.add_module(f"conv{i}_0", first)
            self.add_module(f"conv{i}_1", Convolution(width, width, stride=2))
            before = width

    def descend(self, x: Tensor) -> list[Tensor]:
        """The feature maps, the largest first."""
        check_sides(x)
        made = []
        for i in range(5):
            x = self.get_submodule(f"conv{i}_1")(self.get_submodule(f"conv{i}_0")(x))
            made.append(x)
        return made


class Ascent(nn.Module):
    """Doubles features (B, given, H, W) and joins them with those of their new size, to (B, made, 2 H, 2 W)."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        self.decimate = Convolution(given, made, 1, activation=None)
        self.process_passthrough = Convolution(made, made, bias=True, activation=None)
        self.conjoin = Convolution(2 * made, made, norm=False)
        self.process = Convolution(made, made)

    def forward(self, small: Tensor, large: Tensor) -> Tensor:
        """Small features and large ones (B, made, 2 H, 2 W) to large ones."""
        doubled = self.decimate(interpolate(small, scale_factor=2.0))
        joined: Tensor = self.process(self.conjoin(torch.cat([doubled, self.process_passthrough(large)], 1)))
        return joined


def check_sides(x: Tensor) -> None:
    """Refuse, with a `ValueError`, images whose sides do not halve five times."""
    if x.ndim != 4 or x.shape[2] % 32 or x.shape[3] % 32:
        raise ValueError(f"expected images (B, C, H, W) with sides that are multiples of 32, got {tuple(x.shape)}")
