"""The ancestor's VGG discriminator that judges patches."""

from typing import Annotated

import torch
from annotated_types import Gt, MultipleOf
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from gradloom.networks._layers import Convolution
from gradloom.networks._sizes import Positive
from gradloom.networks._unet_discriminator import check_sides
from gradloom.parts import networks


@networks.register("discriminator_pix")
class DiscriminatorPix(nn.Module):
    """Judges images (B, in_nc, H, W) patch by patch: logits (B, 3, H / 8, W / 8), the higher the more real.

    The layers of `discriminator_vgg_128_gn` without its linear ones, then two doublings that join what was seen on the
    way down; at each of the three sizes, H / 32, H / 16 and H / 8, one channel of logits is made, which the nearest
    pixel brings to the last. H and W are multiples of 32. Names are DL-Art-School's: its weights load as they are.
    (There the logits came as (B * 3 * H / 8 * W / 8, 1), of which losses make the same.)
    """

    def __init__(self, in_nc: Positive, nf: Annotated[int, Gt(0), MultipleOf(8)]) -> None:
        super().__init__()
        before = in_nc
        for i in range(5):
            width = nf * min(2**i, 8)
            self.add_module(f"conv{i}_0", nn.Conv2d(before, width, 3, 1, 1, bias=i == 0))
            if i > 0:
                self.add_module(f"bn{i}_0", nn.GroupNorm(8, width))
            self.add_module(f"conv{i}_1", nn.Conv2d(width, width, 4, 2, 1, bias=False))
            self.add_module(f"bn{i}_1", nn.GroupNorm(8, width))
            before = width
        self.reduce_1 = Convolution(8 * nf, 4 * nf)
        self.pix_loss_collapse = Convolution(4 * nf, 1, norm=False, activation=None)
        self.up3_decimate = Convolution(8 * nf, 8 * nf, bias=True, activation=None)
        self.up3_converge = Convolution(16 * nf, 8 * nf)
        self.up3_proc = Convolution(8 * nf, 8 * nf)
        self.up3_reduce = Convolution(8 * nf, 4 * nf)
        self.up3_pix = Convolution(4 * nf, 1, norm=False, activation=None)
        self.up2_decimate = Convolution(8 * nf, 4 * nf, 1, bias=True, activation=None)
        self.up2_converge = Convolution(8 * nf, 4 * nf)
        self.up2_proc = Convolution(4 * nf, 4 * nf)
        self.up2_reduce = Convolution(4 * nf, 2 * nf)
        self.up2_pix = Convolution(2 * nf, 1, norm=False, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits of their patches."""
        check_sides(x)
        seen = []
        for i in range(5):
            x = self.get_submodule(f"conv{i}_0")(x)
            x = leaky_relu(self.get_submodule(f"bn{i}_0")(x) if i > 0 else x, 0.2)
            x = leaky_relu(self.get_submodule(f"bn{i}_1")(self.get_submodule(f"conv{i}_1")(x)), 0.2)
            seen.append(x)
        small = self.pix_loss_collapse(self.reduce_1(x))
        third = self.up3_proc(self.up3_converge(torch.cat([self.up3_decimate(_doubled(x)), seen[3]], 1)))
        middle = self.up3_pix(self.up3_reduce(third))
        second = self.up2_proc(self.up2_converge(torch.cat([self.up2_decimate(_doubled(third)), seen[2]], 1)))
        large = self.up2_pix(self.up2_reduce(second))
        return torch.cat([_doubled(_doubled(small)), _doubled(middle), large], 1)


def _doubled(features: Tensor) -> Tensor:
    return interpolate(features, scale_factor=2.0)
