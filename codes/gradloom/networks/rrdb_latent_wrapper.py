"""What the blocks of a pretrained RRDB network see in an image, as one latent."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from gradloom.networks._rrdb_features import RRDBFeatures
from gradloom.networks._sizes import Positive
from gradloom.parts import networks


@networks.register("rrdb_latent_wrapper")
class RRDBLatentWrapper(nn.Module):
    """Makes latents (B, nf * (1 + blocks), H, W) of images (B, in_nc, H, W).

    The features after some blocks of SRFlow's RRDB network, and those that it enlarges, pass three 1x1 convolutions.
    Names of weights are DL-Art-School's.
    """

    def __init__(
        self,
        in_nc: Positive,
        out_nc: Positive,
        nf: Positive,
        nb: Positive,
        blocks_for_latent: list[Annotated[int, Ge(0)]],  # from 0
        scale: Literal[2, 4, 8, 16, 32] = 4,
        with_bypass: bool = False,  # weigh each block, see `RRDBNetBypass`
        gc: Positive = 32,
    ) -> None:
        super().__init__()
        if any(place >= nb for place in blocks_for_latent):
            raise ValueError(f"'blocks_for_latent' names block {max(blocks_for_latent)}; there are {nb}, from 0")
        width = nf * (1 + len(blocks_for_latent))
        if width % 8:
            raise ValueError(f"'nf' makes latents of {width} channels here, which are no multiple of 8")
        self.blocks = blocks_for_latent
        self.wrappedRRDB = RRDBFeatures(in_nc, out_nc, nf, nb, scale, 1, gc, with_bypass)
        self.postprocess = nn.Sequential(*(_Mixed(width, last) for last in (False, False, True)))

    def forward(self, lr: Tensor) -> Tensor:
        """Images (B, in_nc, H, W) to latents of the same size."""
        *shown, trunk = self.wrappedRRDB.trunk(lr)
        latent: Tensor = self.postprocess(torch.cat([*(shown[place] for place in self.blocks), trunk], 1))
        return latent


class _Mixed(nn.Module):
    """A 1x1 convolution, and unless it is the last a norm and an activation: (B, C, H, W) to the same."""

    def __init__(self, width: int, last: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1)
        nn.init.kaiming_normal_(self.conv.weight, 0.1, "fan_out", "linear" if last else "leaky_relu")
        self.gn = nn.Identity() if last else nn.GroupNorm(8, width)
        self.lelu = nn.Identity() if last else nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        """Features to features."""
        mixed: Tensor = self.lelu(self.gn(self.conv(x)))
        return mixed
