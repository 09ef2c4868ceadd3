"""ESRGAN's generator as SRFlow has it: a network that shows what it makes on the way to its image."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from gradloom.networks._rrdb import Bypassed, ResidualInResidual, renamed


class RRDBFeatures(nn.Module):
    """Enlarges images (B, in_nc, H, W) `scale` times, and shows features of every size on the way.

    The blocks are ESRGAN's (arXiv 1809.00219); with `bypass` each is weighed by a map that it makes of what goes in
    and comes out. As in SRFlow, the short cut around the trunk's last layer begins behind the blocks, not before them.
    Names of weights are DL-Art-School's, which has no scale 2.
    """

    def __init__(
        self, in_nc: int, out_nc: int, nf: int, nb: int, scale: int, initial_stride: int, gc: int, bypass: bool
    ) -> None:
        super().__init__()
        if scale not in (2, 4, 8, 16, 32):
            raise ValueError(f"'scale' is 2, 4, 8, 16 or 32 here; {scale} is none of these")
        if bypass and nf % 16:
            raise ValueError(f"blocks with a bypass have a multiple of 16 channels; 'nf' is {nf}")
        kernel = 3 if initial_stride == 1 else 7
        self.conv_first = nn.Conv2d(in_nc, nf, kernel, initial_stride, kernel // 2)
        self.body = nn.Sequential(*((Bypassed if bypass else ResidualInResidual)(nf, gc) for _ in range(nb)))
        self.conv_body = nn.Conv2d(nf, nf, 3, padding=1)
        self.enlarging = [f"conv_up{i}" for i in range(1, scale.bit_length())]
        for name in self.enlarging:
            self.add_module(name, nn.Conv2d(nf, nf, 3, padding=1))
        self.conv_hr = nn.Conv2d(nf, nf, 3, padding=1)
        self.conv_last = nn.Conv2d(nf, out_nc, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, in_nc, H, W) to (B, out_nc, scale * H, scale * W), less what the first layer steps over."""
        return self.image(self.larger(self.trunk(x)[-1], len(self.enlarging))[-1])

    def adopt(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights by our names, where they have those of ESRGAN's first release."""
        return {renamed(name): value for name, value in weights.items()}

    def trunk(self, x: Tensor) -> list[Tensor]:
        """The features (B, nf, H, W) after each block, and last those that are enlarged."""
        features = self.conv_first(x)
        made = []
        for block in self.body:
            features = block(features)
            made.append(features)
        return [*made, features + self.conv_body(features)]

    def larger(self, features: Tensor, doublings: int) -> list[Tensor]:
        """The features, and those after each of so many doublings, before their activation."""
        made = [features]
        for name in self.enlarging[:doublings]:
            doubled = interpolate(made[-1] if len(made) == 1 else leaky_relu(made[-1], 0.2), scale_factor=2.0)
            made.append(self.get_submodule(name)(doubled))
        return made

    def image(self, largest: Tensor) -> Tensor:
        """The image that the largest features amount to."""
        shown: Tensor = self.conv_last(leaky_relu(self.conv_hr(leaky_relu(largest, 0.2)), 0.2))
        return shown


def stacked(blocks: Sequence[Tensor], like: Tensor) -> Tensor:
    """Features (B, C, H, W) with those of blocks beside them, brought to their size by the nearest pixel."""
    if not blocks:
        return like
    return torch.cat([like, interpolate(torch.cat([*blocks], 1), like.shape[-2:])], 1)
