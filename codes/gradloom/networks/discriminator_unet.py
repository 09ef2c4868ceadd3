"""The ancestor's U-Net discriminator."""

from typing import Annotated

import torch
from annotated_types import Gt, MultipleOf
from torch import Tensor
from torch.nn.functional import interpolate

from gradloom.networks._layers import Convolution
from gradloom.networks._sizes import Positive
from gradloom.networks._unet_discriminator import Ascent, Descent
from gradloom.parts import networks


@networks.register("discriminator_unet")
class DiscriminatorUNet(Descent):
    """Judges images (B, in_nc, H, W) patch by patch: logits (B, 3, H / 4, W / 4), the higher the more real.

    The images are halved five times and doubled again three times, past what they were on the way down; at each of the
    three sizes, H / 16, H / 8 and H / 4, one channel of logits is made, which the nearest pixel brings to the last. H
    and W are multiples of 32. After Schönfeld et al. 2020 (arXiv 2002.12655), section 3.1. Names are DL-Art-School's:
    its weights load as they are. (There the logits came as (B * 3 * H / 4 * W / 4, 1), of which losses make the same.)
    """

    def __init__(self, in_nc: Positive, nf: Annotated[int, Gt(0), MultipleOf(8)]) -> None:
        super().__init__(in_nc, nf)
        for number, (given, made) in enumerate(((8, 8), (8, 4), (4, 2)), 1):
            self.add_module(f"up{number}", Ascent(given * nf, made * nf))
            self.add_module(f"proc{number}", Convolution(made * nf, made * nf))
            self.add_module(f"collapse{number}", Convolution(made * nf, 1, norm=False, activation=None, bias=True))

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits of their patches."""
        *larger, features = self.descend(x)[1:]
        logits = []
        for number in (1, 2, 3):
            features = self.get_submodule(f"up{number}")(features, larger[-number])
            judged = self.get_submodule(f"collapse{number}")(self.get_submodule(f"proc{number}")(features))
            logits.append(interpolate(judged, scale_factor=float(2 ** (3 - number))))
        return torch.cat(logits, 1)
