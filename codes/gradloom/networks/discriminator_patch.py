"""PatchGAN's discriminator."""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gradloom.networks._first_weights import draw_dcgan_weights
from gradloom.networks._sizes import Positive
from gradloom.parts import networks


@networks.register("discriminator_patch")
class DiscriminatorPatch(nn.Module):
    """Judges overlapping patches of images (B, in_nc, H, W): logits (B, 1, h, w), the higher the more real.

    `num_layers` 4x4 convolutions that halve, of nf, 2 nf, ... up to 8 nf channels, and two that do not; the first and
    the last have no norm. By itself each logit looks at 70 x 70 pixels, and h is H / 8 - 2 (Isola et al. 2017, arXiv
    1611.07004, sections 3.2.2 and 6.1.2). `norm: none` or `spectral` (arXiv 1802.05957, section 2.1) suits a gradient
    penalty. Rows are numbered as in its authors' code, so that weights of theirs load where norms are alike.
    """

    def __init__(
        self,
        in_nc: Positive,
        nf: Positive = 64,
        num_layers: Positive = 3,
        norm: Literal["batch", "instance", "none", "spectral"] = "batch",
    ) -> None:
        super().__init__()
        self.least = 2**num_layers * 3  # pixels a side of which the last layer makes at least one logit
        widths = [nf * min(2**i, 8) for i in range(num_layers + 1)]
        rows: list[nn.Module] = [nn.Conv2d(in_nc, nf, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        for number, (before, width) in enumerate(pairwise(widths), 1):
            rows.append(nn.Conv2d(before, width, 4, 2 if number < num_layers else 1, 1, bias=norm != "batch"))
            if norm in ("batch", "instance"):
                rows.append(nn.BatchNorm2d(width) if norm == "batch" else nn.InstanceNorm2d(width))
            rows.append(nn.LeakyReLU(0.2, inplace=True))
        self.model = nn.Sequential(*rows, nn.Conv2d(widths[-1], 1, 4, 1, 1))
        draw_dcgan_weights(self)
        if norm == "spectral":
            for layer in self.model:
                if isinstance(layer, nn.Conv2d):
                    spectral_norm(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits of their patches."""
        if min(x.shape[2:]) < self.least:
            raise ValueError(f"expected images of {self.least} pixels a side or more, got {tuple(x.shape)}")
        logits: Tensor = self.model(x)
        return logits
